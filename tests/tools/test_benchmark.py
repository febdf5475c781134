"""The table of all exports: what is measured, how failures are told, what is written."""

import csv
import math

import pytest

from tests.small_detector import CLASSES, write_weights
from ultralytics import RTDETR
from ultralytics.data.synthetic import generate_shapes
from ultralytics.engine import benchmark
from ultralytics.engine.benchmark import PYTORCH, Case, Measured, Plan
from ultralytics.utils.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """A data set of the first three shapes, under the detector's class names."""
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
def plan(data) -> Plan:
    return Plan(data, batch=2, warmup=0, repeats=3, device="cpu", threads=1)


def test_combinations_that_do_not_exist_are_left_out():
    cases = list(benchmark.cases_of([PYTORCH, "onnx", "torchscript"], ["float32", "float16", "int8"], [64, 96]))
    assert [str(case) for case in cases if case.imgsz == 64] == [
        "pytorch float32 64", "onnx float32 64", "onnx float16 64", "onnx int8 64", "torchscript float32 64",
        "torchscript float16 64",
    ]  # fmt: skip
    assert len(cases) == 12


def test_a_case_is_exported_and_measured(plan, tmp_path):
    weights = write_weights(tmp_path / "weights")
    case = Case("torchscript", "float32", 64)
    file = benchmark.export_case(str(weights), case, plan, tmp_path / "out")
    assert RTDETR(file).model.metadata.batch == 2 and len(list((tmp_path / "out/models/64").iterdir())) == 1
    found = benchmark.measure(file, case, plan, tmp_path / "out")
    reference = benchmark.measure(str(weights), Case(PYTORCH, "float32", 64), plan, tmp_path / "out")
    assert found.map50 == pytest.approx(reference.map50, abs=1e-3)
    assert 0 < found.median <= found.p95 and found.images_a_second > 0
    assert found.file == (tmp_path / "out/models/64/small.torchscript").stat().st_size and found.memory > 1e6


def test_a_percentile_is_a_value_that_was_measured():
    assert benchmark.percentile([5.0, 1.0, 3.0, 2.0, 4.0], 0.5) == 3.0
    assert benchmark.percentile([1.0, 2.0], 0.95) == 2.0
    assert benchmark.percentile(list(range(1, 101)), 0.95) == 95  # 95 of 100 do not exceed it


def test_a_failed_case_is_a_row_with_its_reason(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "_in_new_process", lambda *_: (_ for _ in ()).throw(UserError("no room\nat all")))
    found = benchmark.measure_apart("best.pt", Case("onnx", "int8", 64), plan, tmp_path)
    assert found == Measured(remark="no room")
    rows = [(Case("onnx", "int8", 64), found), (Case(PYTORCH, "float32", 64), Measured(0.5, 0.25, 10, 12, 100, 10**6))]
    benchmark.write_report(rows, tmp_path, "best.pt")
    with open(tmp_path / "benchmark.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["Remark"] == "no room" and first["mAP50"] == ""
    assert (second["mAP50-95"], second["File (MB)"], second["Memory (MB)"]) == ("0.25", "1.0", "")
    assert (tmp_path / "benchmark.md").read_text().count("\n") == 4
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000


def test_without_labels_there_is_a_table_and_no_picture(tmp_path):
    unknown = Measured(math.nan, math.nan, 10.0, 12.0, 100.0, 10**6)
    benchmark.write_report([(Case("onnx", "float32", 64), unknown)], tmp_path, "best.pt")
    assert "10.0" in (tmp_path / "benchmark.txt").read_text() and not (tmp_path / "benchmark.png").exists()


def test_a_process_that_dies_is_told_by_its_last_words(plan, tmp_path):
    with pytest.raises(UserError, match="its process ended with code 1: KeyError: 'dance'"):
        benchmark._in_new_process("dance", "best.pt", Case("onnx", "int8", 64), plan, tmp_path)


def test_what_it_needs_is_said(tmp_path):
    with pytest.raises(UserError, match="expected weights"):
        benchmark.command("rtdetr-r18.yaml")
    with pytest.raises(UserError, match="which data set"):
        benchmark.command(str(write_weights(tmp_path)))


@pytest.mark.slow
def test_the_command(data, tmp_path, caplog, capfd):
    caplog.set_level("INFO", logger="ultralytics")
    weights = write_weights(tmp_path / "weights")
    RTDETR(weights).benchmark(
        data=data, formats="pytorch,torchscript,onnx,openvino", precisions="float32,float16,int8", imgsz=[64, 96],
        repeats=3, warmup=1, project=str(tmp_path), name="b",
    )  # fmt: skip
    with open(tmp_path / "b/benchmark.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18 and not any(row["Remark"] for row in rows)
    maps = {row["mAP50-95"] for row in rows if row["Precision"] == "float32" and row["Size (px)"] == "64"}
    assert max(map(float, maps)) - min(map(float, maps)) <= 1e-3
    assert f"Results saved to {tmp_path / 'b'}" in caplog.text + "".join(capfd.readouterr())  # as the log is set up
