"""Files that the published package writes, and those written for it: weights, exports and detections with them.

Slow, and skipped without the package in a folder of its own: PUBLISHED_ULTRALYTICS is its site-packages.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden import fill
from ultralytics import RTDETR, YOLO
from ultralytics.nn.head_protocol import ANCHORS, END2END
from ultralytics.utils import ASSETS
from ultralytics.utils.errors import ModelConfigError

SITE = Path(os.environ.get("PUBLISHED_ULTRALYTICS") or os.devnull)
MISSING = "PUBLISHED_ULTRALYTICS is no folder with the published package"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (SITE / "ultralytics").is_dir(), reason=MISSING)]
NAMES = ("yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n")
EXPORTS = {
    "raw": {},
    "nms": {"nms": True, "conf": 0.2, "max_det": 1000},
    "dynamic": {"dynamic": True, "simplify": False},
}
WRITE = """
import json, os, sys
import numpy as np, torch
from ultralytics import YOLO
names, exports, picture, tools = json.loads(sys.argv[1])
sys.path.append(tools)
from fill import fill
x = torch.from_numpy(np.random.default_rng(3).random((2, 3, 96, 128), dtype=np.float32))
for name in names:
    model = YOLO(f"{name}.yaml")
    network, head = model.model, model.model.model[-1]
    fill(network, 1.5)
    for part in ("cv3", "one2one_cv3"):
        for branch in getattr(head, part, []):
            branch[-1].bias.data -= 1.5
    network.names = {i: f"class {i}" for i in range(80)}
    model.save(f"my{name[4:]}.pt")
    with torch.no_grad():
        y = YOLO(f"my{name[4:]}.pt").model.float().eval()(x)[0]
    files = {"": f"my{name[4:]}.pt"}
    if name in ("yolov8n", "yolo26n"):
        for kind, options in exports.items():
            files[kind] = f"{name}-{kind}.onnx"
            os.rename(YOLO(f"my{name[4:]}.pt").export(format="onnx", imgsz=128, **options), files[kind])
    found, options = {}, {"imgsz": 128, "conf": 0.2, "max_det": 1000, "verbose": False}
    for file in files.values():
        found[file] = YOLO(file, task="detect").predict(picture, **options)[0].boxes.data.tolist()
    np.savez(f"{name}.npz", y=y.numpy(), keys=np.array(list(network.state_dict())), found=json.dumps(found))
YOLO("yolov8n-seg.yaml").save("my-segment.pt")
"""
READ = """
import json, sys
import torch
from ultralytics import RTDETR, YOLO
names, picture = json.loads(sys.argv[1])
found = {}
for name in names:
    file = f"{name}_published.pt"
    model = (RTDETR if "rtdetr" in name else YOLO)(file)
    boxes = model.predict(picture, imgsz=128, conf=0.2, max_det=1000, verbose=False)[0].boxes.data
    found[name] = [model.names[79], torch.load(file, weights_only=False)["model"].names[3], boxes.tolist()]
print(json.dumps(found))
"""


def published(script, folder, *given):
    """Run the published package in a process of its own, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(SITE), "YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "false"}
    run = subprocess.run(
        [sys.executable, "-c", script, json.dumps(given)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write the files of the published package."""
    folder = tmp_path_factory.mktemp("published")
    published(WRITE, folder, NAMES, EXPORTS, str(ASSETS / "zidane.jpg"), str(Path(fill.__file__).parent))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_detections_of_weights_and_exports(name, folder):
    record = np.load(folder / f"{name}.npz")
    model = RTDETR(folder / f"my{name[4:]}.pt", verbose=False)
    assert type(model) is YOLO and model.names[79] == "class 79"
    network = model.model
    assert list(network.state_dict()) == record["keys"].tolist()
    branch = {"end2end": False} if network.end2end else {}  # the default of 8.4
    if branch:
        network.end2end = False
    x = torch.from_numpy(np.random.default_rng(3).random((2, 3, 96, 128), dtype=np.float32))
    with torch.no_grad():
        torch.testing.assert_close(network(x)[0], torch.from_numpy(record["y"]), atol=1e-3, rtol=1e-4)
    for file, rows in json.loads(str(record["found"])).items():
        detector = YOLO(folder / file, verbose=False)
        options = {"imgsz": 128, "conf": 0.2, "max_det": 1000, **({} if detector.is_exported else branch)}
        found = detector.predict(ASSETS / "zidane.jpg", verbose=False, **options)[0].boxes.data
        assert len(rows) > 3, file
        assert detector.is_exported != file.endswith(".pt")
        if detector.is_exported:
            assert detector.model.layout == (END2END if "nms" in file else ANCHORS)
        assert len(found) == len(rows)
        assert np.abs(np.array(rows)[:, None] - found.numpy()).sum(2).min(1).max() < 0.05, file  # the nearest of each


def test_weights_of_another_task_are_refused_by_its_name(folder):
    with pytest.raises(ModelConfigError, match="Segment is a head of the task 'segment'"):
        YOLO(folder / "my-segment.pt").model  # noqa: B018


def test_files_for_the_published_package(tmp_path, monkeypatch):
    """A decoder's best pairs of query and class are selected there, and the best class of each query here."""
    monkeypatch.chdir(tmp_path)
    names, ours, picture = (*NAMES, "rtdetr-l", "rtdetr-resnet50"), {}, str(ASSETS / "zidane.jpg")
    for name in names:
        model = RTDETR(f"{name}.yaml", verbose=False)
        fill.fill(model.model, 1.5)
        for part in ("cv3", "one2one_cv3"):
            for branch in getattr(model.model.model[-1], part, None) or ():
                branch[-1].bias.data -= 1.5
        model.model.names = {i: f"class {i}" for i in range(80)}
        model.export(format="published", imgsz=128)
        branch = {"end2end": False} if getattr(model.model, "end2end", False) else {}  # the default of 8.4
        ours[name] = model.predict(picture, imgsz=128, conf=0.2, max_det=1000, verbose=False, **branch)[0].boxes.data
    for name, (last, third, rows) in json.loads(published(READ, tmp_path, names, picture).splitlines()[-1]).items():
        rows = torch.tensor(rows)
        compared = ours[name][ours[name][:, 4] > rows[:, 4].min() + 1e-4] if "rtdetr" in name else ours[name]
        assert (last, third) == ("class 79", "class 3") and len(compared) > 3
        assert "rtdetr" in name or len(rows) == len(compared)
        assert (compared[:, None] - rows).abs().sum(2).amin(1).max() < 0.05, name
