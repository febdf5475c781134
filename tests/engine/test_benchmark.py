"""Speed of a network, and the table of all exports: measurements, failures, files."""

import csv
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.small_detector import CLASSES, write_weights
from ultralytics.data.synthetic import generate_shapes
from ultralytics.engine import benchmark
from ultralytics.engine.benchmark import PYTORCH, BenchmarkSettings, Case, Measurement, Speed, peak_memory
from ultralytics.models.rtdetr.model import RTDETR
from ultralytics.utils.errors import UserError

CPU = torch.device("cpu")


def test_statistics_of_runs():
    speed = Speed((10.0, 20.0, 60.0, 30.0), batch=3, memory=None)
    assert (speed.mean, speed.median, speed.fps) == (30, 25, 100)
    assert speed.std == pytest.approx(torch.tensor(speed.runs).std().item())
    assert (speed.percentile(50), speed.percentile(95)) == (20, 60)
    assert Speed(tuple(range(1, 101)), 1, None).percentile(95) == 95


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
    speed = benchmark.measure_speed(network, imgsz=64, batch=2, device=CPU, warmup=3, repeats=5)
    assert network.shapes == [(2, 3, 64, 64)] * 8 and network.modes == {(False, False)}
    assert len(speed.runs) == 5 and min(speed.runs) > 0
    assert speed.memory is None or speed.memory > 10_000_000  # the process contains torch


@pytest.mark.skipif(sys.platform != "linux", reason="includes the peak of the parent process elsewhere")
def test_memory_is_that_of_the_process_without_its_parent():
    code = "import torch; from ultralytics.engine.benchmark import peak_memory; print(peak_memory(torch.device('cpu')))"
    alone = int(subprocess.check_output([sys.executable, "-c", code]))
    large = torch.ones(alone // 2)  # twice as much, in this process
    assert peak_memory(CPU) > large.nbytes
    assert int(subprocess.check_output([sys.executable, "-c", code])) == pytest.approx(alone, rel=0.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Write a data set of the first three shapes with the class names of the detector."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    generate_shapes(root, images_train=1, images_val=4, size=64)
    for label in (root / "labels").rglob("*.txt"):
        label.write_text("".join(row for row in label.read_text().splitlines(keepends=True) if row[0] in "012"))
    file = root.parent / "shapes.yaml"
    file.write_text(
        f"path: {root}\ntrain: images/train\nval: images/val\nnames: [{', '.join(CLASSES)}]\n", encoding="utf-8"
    )
    return str(file)


@pytest.fixture
def plan(data, tmp_path) -> BenchmarkSettings:
    return BenchmarkSettings(RTDETR, data, tmp_path / "out", batch=2, warmup=0, repeats=3, device="cpu")


def test_unsupported_combinations_are_skipped():
    cases = list(benchmark.list_cases([PYTORCH, "onnx", "torchscript"], ["float32", "float16", "int8"], [64, 96]))
    assert [str(case) for case in cases if case.imgsz == 64] == [
        "pytorch float32 64", "onnx float32 64", "onnx float16 64", "onnx int8 64", "torchscript float32 64",
        "torchscript float16 64",
    ]  # fmt: skip
    assert len(cases) == 12


def test_a_case_is_exported_and_measured(plan, tmp_path):
    weights = write_weights(tmp_path / "weights")
    case = Case("torchscript", "float32", 64)
    file = benchmark.export_case(str(weights), case, plan)
    assert RTDETR(file).model.metadata.batch == 2 and len(list((tmp_path / "out/models/64").iterdir())) == 1
    found = benchmark.measure_file(file, case, plan)
    reference = benchmark.measure_file(str(weights), Case(PYTORCH, "float32", 64), plan)
    assert found.map50 == pytest.approx(reference.map50, abs=1e-3)
    assert 0 < found.median <= found.p95 and found.fps > 0
    assert found.file == Path(file).stat().st_size / 1e6 and found.memory > 1


def test_a_failed_case_is_a_row_with_its_reason(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "call_in_process", lambda *_: (_ for _ in ()).throw(UserError("no room\nat all")))
    found = benchmark.measure_case("best.pt", Case("onnx", "int8", 64), plan)
    assert found == Measurement(remark="no room")
    done = Measurement(0.5, 0.25, 10, 12, 100, 1.0)
    rows = [(Case("onnx", "int8", 64), found), (Case(PYTORCH, "float32", 64), done)]
    benchmark.write_report(rows, tmp_path, "best.pt")
    with open(tmp_path / "benchmark.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["Remark"] == "no room" and first["mAP50"] == ""
    assert (second["mAP50-95"], second["File (MB)"], second["Memory (MB)"]) == ("0.25", "1.0", "")
    assert (tmp_path / "benchmark.md").read_text().count("\n") == 4
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000
    (tmp_path / "benchmark.png").unlink()
    benchmark.write_report([(rows[1][0], replace(done, map=math.nan))], tmp_path, "best.pt")  # no labels
    assert "10.0" in (tmp_path / "benchmark.txt").read_text() and not (tmp_path / "benchmark.png").exists()


def test_functions_in_another_process():
    case = Case("onnx", "int8", 64)
    assert benchmark.call_in_process(replace, case) == case
    with pytest.raises(UserError, match=r"its process ended with code 1: TypeError: peak_memory"):
        benchmark.call_in_process(benchmark.peak_memory, "dance", 1)
    with pytest.raises(UserError, match=r"none\.pt"):
        benchmark.call_in_process(RTDETR, "none.pt")


def test_missing_weights_and_data_are_errors(tmp_path):
    with pytest.raises(UserError, match="expected trained weights"):
        RTDETR("rtdetr-r18.yaml").benchmark()
    with pytest.raises(UserError, match="data= is missing"):
        RTDETR(write_weights(tmp_path)).benchmark()


@pytest.mark.slow
def test_all_formats(data, tmp_path, caplog, capfd):
    caplog.set_level("INFO", logger="ultralytics")
    RTDETR(write_weights(tmp_path / "weights")).benchmark(
        data=data, imgsz=[64, 96], repeats=3, warmup=1, project=str(tmp_path), name="b"
    )
    with open(tmp_path / "b/benchmark.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18 and not any(row["Remark"] for row in rows)
    maps = {row["mAP50-95"] for row in rows if row["Precision"] == "float32" and row["Size (px)"] == "64"}
    assert max(map(float, maps)) - min(map(float, maps)) <= 1e-3
    assert f"Results saved to {tmp_path / 'b'}" in caplog.text + "".join(capfd.readouterr())
