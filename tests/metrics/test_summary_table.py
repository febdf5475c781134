import csv

import pytest
from torch import nn

from tests.golden.detections import CASES, matched
from ultralytics.metrics.summary_table import SummaryTable, summary_table

FACTS = {"name": "my_model", "imgsz": 640, "parameters": 12_345_678, "gflops": 30.02}
FACTS["file_bytes"] = 45_000_000


def test_the_models_row_and_the_four_files(tmp_path):
    metrics = matched(CASES[2])[0]
    metrics.data = ("my.yaml", "val", "0123456789ab")
    table = SummaryTable.build(metrics, **FACTS)
    files = table.save(tmp_path)
    assert [file.name for file in files] == [f"summary_table.{s}" for s in ("txt", "md", "tex", "csv")]
    row = dict(zip(table.model.titles, table.model.cells[0], strict=True))
    assert row == {
        "Model": "my_model", "Size (px)": "640", "Params (M)": "12.346", "GFLOPs": "30.02", "File (MB)": "45.0",
    }  # fmt: skip
    assert r"my\_model & 640 & 12.346" in files[2].read_text()
    assert "| my_model | 640 | 12.346 |" in files[1].read_text()
    rows = list(csv.DictReader(files[3].read_text().splitlines()))
    assert [row["Class"] for row in rows] == [row["Class"] for row in metrics.rows()]
    assert [rows[1][key] for key in ("Data", "Split", "Fingerprint")] == list(metrics.data)
    assert float(rows[0]["mAP50-95"]) == pytest.approx(CASES[2]["map"], abs=1e-9) and rows[1]["Model"] == "my_model"


def test_what_is_not_known_is_a_dash_and_not_zero():
    facts = {"parameters": None, "gflops": None, "file_bytes": None}
    assert SummaryTable.build(matched(CASES[2])[0], **FACTS | facts).model.cells[0][2:] == ["-", "-", "-"]


def model_row(table) -> dict:
    return dict(zip(table.model.titles, table.model.rows[0], strict=True))


class Net(nn.Module):
    """A convolution of 3 x 8 x 3 x 3 numbers."""

    def __init__(self, wrong=False):
        super().__init__()
        self.conv, self.wrong = nn.Conv2d(3, 8, 3, padding=1, bias=False), wrong

    def forward(self, x):
        return self.conv(x if not self.wrong else x[:, :2])


def test_parameters_and_operations_of_a_network(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"x" * 2_000_000)
    row = model_row(summary_table(Net(), matched(CASES[2])[0], str(tmp_path / "best.pt"), imgsz=64))
    assert (row["Model"], row["Size (px)"]) == ("best", 64)
    assert (row["Params (M)"], row["File (MB)"]) == (216 / 1e6, 2.0)
    assert row["GFLOPs"] == pytest.approx(2 * 216 * 64 * 64 / 1e9)


def test_the_model_file_gives_the_name_and_has_no_file_size(tmp_path):
    (tmp_path / "mine.yaml").write_text("nc: 3\n")
    network = Net()
    network.yaml = {"yaml_file": "some/rtdetr-mine.yaml"}
    row = model_row(summary_table(network, matched(CASES[2])[0], str(tmp_path / "mine.yaml"), imgsz=64))
    assert row["Model"] == "rtdetr-mine" and row["File (MB)"] is None


def test_gflops_that_cannot_be_counted_are_left_out_with_a_warning(caplog):
    row = model_row(summary_table(Net(wrong=True), matched(CASES[2])[0], "m.yaml", imgsz=64))
    assert row["GFLOPs"] is None and row["Params (M)"] == 216 / 1e6
    assert "the GFLOPs cannot be counted: Net: its forward fails" in caplog.text


def test_an_exported_model_has_a_size_on_disk_only(tmp_path):
    folder = tmp_path / "best_openvino_model"
    (folder / "more").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"x" * 900_000)
    (folder / "more" / "names").write_bytes(b"x" * 100_000)

    class Runtime(nn.Module):  # holds no parameters, and cannot be copied
        def __deepcopy__(self, memo):
            raise TypeError("a session cannot be copied")

    row = model_row(summary_table(Runtime(), matched(CASES[2])[0], str(folder), imgsz=64))
    assert (row["Params (M)"], row["GFLOPs"], row["File (MB)"]) == (None, None, 1.0)
