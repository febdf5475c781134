"""`yolo inspect`."""

import logging

import pytest

from ultralytics import RTDETR
from ultralytics.cli import parse_call, run_guarded
from ultralytics.tools.inspect_model import command
from ultralytics.utils.errors import UserError

FILES = ["graph.html", "graph.png", "graph.svg", "layers.csv"]


def run(*words: str) -> int:
    return run_guarded(lambda: command(**parse_call(command, words, "yolo inspect")))


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_model_file(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("ultralytics.tools.inspect_model.LOGGER", logging.getLogger("inspected"))
    with caplog.at_level("INFO", logger="inspected"):
        command("rtdetr-r18.yaml", nc=3)
        command("rtdetr-r18.yaml", imgsz=128)
    assert sorted(file.name for file in (tmp_path / "runs/inspect/rtdetr-r18").iterdir()) == FILES
    assert (tmp_path / "runs/inspect/rtdetr-r182/graph.svg").is_file()  # numbered, nothing is overwritten
    assert "300x7" in (tmp_path / "runs/inspect/rtdetr-r18/layers.csv").read_text()
    assert "RTDETRDecoder" in caplog.text and "at 128x128 by thop" in caplog.text
    assert "layers.csv, graph.svg, graph.png, graph.html written" in caplog.text


def test_weights(tmp_path):
    RTDETR("rtdetr-efficientvit-m0.yaml").save("best.pt")
    command("best.pt", project="out", name="mine")
    assert sorted(file.name for file in (tmp_path / "out/mine").iterdir()) == FILES
    with pytest.raises(UserError, match=r"best\.pt holds weights, whose number of classes is fixed"):
        command("best.pt", nc=3)


MODULES = """
import torch
from torch import nn


class Steps(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        widths = [int(w) for w in torch.linspace(c1, c2, 3)]  # values, which the meta device lacks
        self.convs = nn.Sequential(*(nn.Conv2d(a, b, 1) for a, b in zip(widths, widths[1:])))

    def forward(self, x):
        return self.convs(x)
"""


MODEL = """
nc: 2
backbone:
  - [-1, 1, EfficientViT_M0, []]
head:
  - [4, 1, Steps, [256]]
  - [[2, 3, 5], 1, RTDETRDecoder, [nc, 256, 300, 4, 8, 1]]
"""


def test_a_module_of_another_folder_that_reads_values_when_built(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/steps.py").write_text(MODULES)
    (tmp_path / "my.yaml").write_text(MODEL)
    assert run("model=my.yaml", "modules=mine") == 0
    text = (tmp_path / "runs/inspect/my/layers.csv").read_text()
    assert "Steps" in text and "256x20x20" in text
    assert run("model=my.yaml") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model=none.yaml",), "error: model 'none.yaml': no such file"),
        (("model=none.pt",), "none.pt"),
        (("model=notes.txt",), "error: model 'notes.txt': expected a model file (.yaml), weights (.pt) or an"),
        (("model=bad.yaml",), ": not valid YAML: expected ',' or ']'"),
        (("model=row.yaml",), "no module 'Cnov'; did you mean 'Conv'?"),
        (("modl=x.yaml",), "error: yolo inspect: unknown argument 'modl=x.yaml'; did you mean 'model'?"),
        (("model=rtdetr-r18.yaml", "imgsz=8"), "error: yolo inspect: imgsz: expected an integer >= 32"),
    ],
)
def test_what_cannot_be_done_is_one_line(words, message, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("nc: [80\n")
    (tmp_path / "row.yaml").write_text(
        "nc: 2\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n  - [-1, 1, Cnov, [16]]\n"
    )
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "runs").exists()
