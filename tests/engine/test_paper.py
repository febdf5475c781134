from types import SimpleNamespace

import pytest
from torch import nn

from tests.golden.detections import CASES, matched
from ultralytics.metrics.summary_table import summary_table


@pytest.fixture
def metrics():
    return matched(CASES[2])[0]


def facts(table) -> dict:
    return dict(zip(table.model.titles, table.model.rows[0], strict=True))


class Net(nn.Module):
    """A convolution of 3 x 8 x 3 x 3 numbers."""

    def __init__(self, wrong=False):
        super().__init__()
        self.conv, self.wrong = nn.Conv2d(3, 8, 3, padding=1, bias=False), wrong

    def forward(self, x):
        return self.conv(x if not self.wrong else x[:, :2])


def test_size_and_operations_of_a_network(metrics, tmp_path):
    (tmp_path / "best.pt").write_bytes(b"x" * 2_000_000)
    row = facts(summary_table(Net(), metrics, str(tmp_path / "best.pt"), imgsz=64, batch=2))
    assert (row["Model"], row["Size (px)"], row["Batch"]) == ("best", 64, 2)
    assert (row["Params (M)"], row["File (MB)"]) == (216 / 1e6, 2.0)
    assert row["GFLOPs"] == pytest.approx(2 * 216 * 64 * 64 / 1e9)


def test_the_model_file_gives_the_name_and_has_no_size(metrics, tmp_path):
    (tmp_path / "mine.yaml").write_text("nc: 3\n")
    network = Net()
    network.yaml = {"yaml_file": "some/rtdetr-mine.yaml"}
    row = facts(summary_table(network, metrics, str(tmp_path / "mine.yaml"), imgsz=64, batch=2))
    assert row["Model"] == "rtdetr-mine" and row["File (MB)"] is None


def test_what_cannot_be_counted_stays_open_and_is_told(metrics, monkeypatch):
    told = []
    monkeypatch.setattr("ultralytics.metrics.summary_table.LOGGER", SimpleNamespace(warning=told.append))
    row = facts(summary_table(Net(wrong=True), metrics, "m.yaml", imgsz=64, batch=2))
    assert row["GFLOPs"] is None and row["Params (M)"] == 216 / 1e6
    assert len(told) == 1 and "the GFLOPs cannot be counted: Net: its forward fails" in told[0]


def test_an_exported_model_has_a_size_on_disk_only(metrics, tmp_path):
    folder = tmp_path / "best_openvino_model"
    (folder / "more").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"x" * 900_000)
    (folder / "more" / "names").write_bytes(b"x" * 100_000)

    class Runtime(nn.Module):  # holds no parameters, and cannot be copied
        def __deepcopy__(self, memo):
            raise TypeError("a session cannot be copied")

    row = facts(summary_table(Runtime(), metrics, str(folder), imgsz=64, batch=2))
    assert (row["Params (M)"], row["GFLOPs"], row["File (MB)"]) == (None, None, 1.0)
