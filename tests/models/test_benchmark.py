"""Speed of a network, and the table of all exports: measurements, failures, files."""

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import ultralytics.models.benchmark as benchmark
from tests.shapes import write_data
from tests.small_detector import CLASSES, YOLO_CONTENT, write_weights
from ultralytics.data.synthetic import generate_shapes
from ultralytics.models.rtdetr.model import RTDETR
from ultralytics.models.yolo.model import YOLO
from ultralytics.utils.errors import UserError

CPU = torch.device("cpu")


class Counting(nn.Module):
    """Record input shapes and modes."""

    def __init__(self):
        super().__init__()
        self.shapes, self.modes = [], set()

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        self.modes.add((self.training, torch.is_grad_enabled()))


def test_warmup_runs_are_not_timed():
    network = Counting().train()
    times = benchmark.measure_speed(network, imgsz=64, batch=2, device=CPU, warmup=3, repeats=5)
    assert network.shapes == [(2, 3, 64, 64)] * 8 and network.modes == {(False, False)}
    assert times.shape == (5,) and times.min() > 0


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Write a data set of the first three shapes with the class names of the detector."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    generate_shapes(root, images_train=1, images_val=4, size=64)
    for label in (root / "labels").rglob("*.txt"):
        label.write_text("".join(row for row in label.read_text().splitlines(keepends=True) if row[0] in "012"))
    return str(write_data(root, "shapes.yaml", CLASSES))


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "benchmark.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_formats_are_measured_and_unsupported_precisions_skipped(data, tmp_path):
    large = torch.ones(250_000_000)  # 1 GB in this process
    weights = write_weights(tmp_path / "weights")
    options = {"formats": "pytorch,torchscript", "precisions": "float32,int8", "warmup": 0, "repeats": 3}
    RTDETR(weights).benchmark(data=data, imgsz=64, batch=2, device="cpu", project=str(tmp_path), name="b", **options)
    first, second = read_rows(tmp_path / "b")
    assert (first["Format"], second["Format"], second["Remark"]) == ("pytorch", "torchscript", "")
    assert float(first["mAP50"]) == pytest.approx(float(second["mAP50"]), abs=1e-3)
    assert 0 < float(second["Median (ms)"]) <= float(second["p95 (ms)"]) and float(second["Images/s"]) > 0
    assert 0.1 < float(first["Memory (MB)"]) < large.nbytes / 1e6  # without this process
    exported = tmp_path / "b/models/64" / weights.with_suffix(".torchscript").name
    assert RTDETR(exported).model.metadata.batch == 2
    assert float(second["File (MB)"]) == exported.stat().st_size / 1e6
    assert (tmp_path / "b/benchmark.png").stat().st_size > 10_000


def test_yolo_is_measured_at_one_size_with_the_same_accuracy(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "run_in_process", lambda function, *args: function(*args))
    root = tmp_path / "shapes"
    generate_shapes(root, images_train=1, images_val=4, size=64)
    model = YOLO(write_weights(tmp_path / "weights", YOLO_CONTENT))
    for convolutions in model.model.model[-1].cv2:  # all sides one cell from their position
        convolutions[-1].weight.data.zero_()
        convolutions[-1].bias.data.view(4, 16)[:] = 20 * torch.eye(16)[1]
    model.save(weights := str(tmp_path / "small.pt"))
    for result in model.predict(root / "images/val", imgsz=64, conf=0.3, max_det=6, rect=False):
        label = root / "labels/val" / Path(result.path).with_suffix(".txt").name
        label.unlink()
        result.save_txt(label)  # its own detections
    data = str(write_data(root, "shapes.yaml", CLASSES))
    settings = {"data": data, "split": "val", "batch": 1, "device": "cpu", "warmup": 0, "repeats": 2, "open": {}}
    rows = [
        benchmark.measure_case(YOLO, weights, kind, "float32", 64, tmp_path, settings)
        for kind in ("pytorch", "torchscript")
    ]
    assert rows[0][0] > 0.5 and rows[0][:2] == pytest.approx(rows[1][:2], abs=1e-3)
    assert [row[-1] for row in rows] == ["", ""] and all(row[2] > 0 for row in rows)


def test_a_failed_case_is_a_row_with_its_reason(tmp_path):
    settings = {"data": "none.yaml", "split": "val", "batch": 1, "device": "cpu", "warmup": 0, "repeats": 2, "open": {}}
    weights = write_weights(tmp_path / "weights")
    cells = benchmark.measure_case(RTDETR, str(weights), "pytorch", "float32", 64, tmp_path, settings)
    assert cells[:-1] == [None] * 7 and "its process ended with code 1" in cells[-1] and "none.yaml" in cells[-1]
    rows = [("pytorch", "float32", 64, *cells), ("onnx", "int8", 64, 0.5, math.nan, 10, 12, 100, 1.0, None, "")]
    benchmark.write_report(rows, tmp_path, "best.pt")
    first, second = read_rows(tmp_path)
    assert first["Remark"] == cells[-1] and first["mAP50"] == ""
    assert (second["mAP50-95"], second["File (MB)"], second["Memory (MB)"]) == ("", "1.0", "")
    assert not (tmp_path / "benchmark.png").exists()  # no labels


def test_missing_weights_and_data_are_errors(tmp_path):
    with pytest.raises(UserError, match="expected trained weights"):
        RTDETR("rtdetr-r18.yaml").benchmark()
    with pytest.raises(UserError, match="data= is missing"):
        RTDETR(write_weights(tmp_path)).benchmark()


@pytest.mark.slow
def test_all_formats(data, tmp_path):
    RTDETR(write_weights(tmp_path / "weights")).benchmark(
        data=data, imgsz=[64, 96], repeats=3, warmup=1, project=str(tmp_path), name="b"
    )
    rows = read_rows(tmp_path / "b")
    # OpenVINO's rounding leaves the bounds of its export on some processors, and its int8 needs nncf
    remarks = [row["Remark"] for row in rows if row["Remark"]]
    assert len(rows) == 18 and all("differs from PyTorch" in text or "not installed" in text for text in remarks)
    rows = [row for row in rows if not row["Remark"]]
    maps = {row["mAP50-95"] for row in rows if row["Precision"] == "float32" and row["Size (px)"] == "64"}
    assert max(map(float, maps)) - min(map(float, maps)) <= 1e-3
