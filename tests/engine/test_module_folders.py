"""A module outside the package, from training to a process that has only the weights."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ultralytics import RTDETR
from ultralytics.data.synthetic import NAMES, generate_shapes
from ultralytics.utils.errors import ModelConfigError

OUTSIDE = """
from torch import nn

class OutsideGate{n}(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1, groups=reduction)

    def forward(self, x):
        return x * self.fc(x).sigmoid()
"""
QUICK = {"imgsz": 64, "batch": 2, "epochs": 1, "queries": 10, "denoising": 4, "device": "cpu", "plots": False}


def model_file(folder: Path, module: str, **keys) -> Path:
    """A tiny detector with the module before its decoder."""
    backbone = [[-1, 1, "Conv", [16, 3, 2]] for _ in range(3)]
    head = [[-1, 1, module, [8]], [[-1], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 1]]]
    file = folder / "net.yaml"
    file.write_text(yaml.safe_dump({"nc": 6, **keys, "backbone": backbone, "head": head}))
    return file


@pytest.fixture
def data(tmp_path) -> dict:
    generate_shapes(tmp_path / "shapes", images_train=4, images_val=2, size=64, seed=0)
    return {"path": str(tmp_path / "shapes"), "train": "images/train", "val": "images/val", "names": list(NAMES)}


def test_the_option_holds_for_training_and_later_for_its_weights(tmp_path, data):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "OutsideGate1.py").write_text(OUTSIDE.format(n=1))
    model = RTDETR(model_file(tmp_path, "OutsideGate1"))
    model.train(data=data, modules=str(folder), workers=1, project=str(tmp_path), **QUICK)
    weights = model.trainer.last
    code = f"from ultralytics import RTDETR; import numpy as np; m = RTDETR({str(weights)!r})\n"
    code += "m.predict(np.zeros((64, 64, 3), np.uint8)); print('predicted')\n"
    assert run(code).stdout.endswith("predicted\n")
    resume = f"from ultralytics import RTDETR; RTDETR({str(weights)!r}).train(resume=True, epochs=2); print('resumed')"
    assert run(resume).stdout.endswith("resumed\n")

    exported = f"from ultralytics import RTDETR; print(RTDETR({str(weights)!r}).export(format='torchscript', imgsz=64))"
    file = run(exported).stdout.strip()

    moved = shutil.move(folder, tmp_path / "moved")
    assert run(code.replace(str(weights), file)).stdout.endswith("predicted\n")  # an exported model needs no folder
    gone = run(code)
    assert f"module folder {folder}, recorded with the model, is gone" in gone.stderr
    assert "no module 'OutsideGate1'" in gone.stderr
    assert run(code.replace("np.uint8)", f"np.uint8), modules={str(moved)!r}")).stdout.endswith("predicted\n")


def test_every_process_of_a_distributed_run_finds_it(tmp_path, data):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "OutsideGate3.py").write_text(OUTSIDE.format(n=3))
    model = RTDETR(model_file(tmp_path, "OutsideGate3"))
    options = {**QUICK, "device": "cpu,cpu", "workers": 0}
    model.train(data=data, modules=str(folder), project=str(tmp_path), **options)
    assert type(model.model.model[3]).__name__ == "OutsideGate3"
    assert len(model.predict(np.zeros((64, 64, 3), np.uint8), conf=0.0)[0].boxes) == 10


def test_a_model_file_may_name_its_folder(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "OutsideGate2.py").write_text(OUTSIDE.format(n=2))
    model = RTDETR(model_file(tmp_path, "OutsideGate2", modules="parts"))
    assert model.model.yaml["modules"] == [str(tmp_path / "parts")]
    assert len(model.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64)) == 1


def test_a_folder_that_is_none_is_an_error(tmp_path):
    with pytest.raises(ModelConfigError, match="nowhere is not a folder"):
        RTDETR(model_file(tmp_path, "Conv")).predict(np.zeros((64, 64, 3), np.uint8), modules=str(tmp_path / "nowhere"))


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
