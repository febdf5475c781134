"""The `yolo` command, with a model class that only notes what it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ultralytics
from ultralytics.cfg import DEFAULT_CFG_PATH, get_cfg
from ultralytics.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def calls(monkeypatch):
    """Every call of the stand-in for RTDETR, as (method, model, keyword arguments)."""
    noted = []

    class FakeRTDETR:
        def __init__(self, model):
            self.model = model

        def train(self, **overrides):
            noted.append(("train", self.model, overrides))

        def val(self, **overrides):
            noted.append(("val", self.model, overrides))

        def predict(self, **overrides):
            yield "first"
            noted.append(("predict", self.model, overrides))  # reached only when the stream is used up

    monkeypatch.setattr("ultralytics.models.rtdetr.model.RTDETR", FakeRTDETR)
    return noted


@pytest.mark.parametrize(
    ("line", "call"),
    [
        (
            "detect train model=m.yaml data=my.yaml epochs=72 imgsz=640 batch=4",
            ("train", "m.yaml", {"data": "my.yaml", "epochs": 72, "imgsz": 640, "batch": 4}),
        ),
        ("train model=m.yaml data=d.yaml device=0", ("train", "m.yaml", {"data": "d.yaml", "device": "0"})),
        ("model=m.yaml mode=train data=d.yaml task=detect", ("train", "m.yaml", {"data": "d.yaml"})),
        ("train resume=last.pt", ("train", "last.pt", {"resume": "last.pt"})),
        ("train model=last.pt resume=True", ("train", "last.pt", {"resume": True})),
        ("val model=best.pt split=test", ("val", "best.pt", {"split": "test"})),
        ("val --model best.pt --plots False", ("val", "best.pt", {"plots": False})),
        ("predict model=b.pt source=0", ("predict", "b.pt", {"source": 0, "stream": True, "save": True})),
        (
            "predict model=b.pt source=a.jpg save=False",
            ("predict", "b.pt", {"source": "a.jpg", "stream": True, "save": False}),
        ),
    ],
)
def test_the_model_gets_what_was_asked(line, call, calls):
    assert main(line.split()) == 0
    assert calls == [call]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian model=m.yaml", "yolo: unknown command 'trian'; did you mean 'train'?"),
        ("xyz", "expected train, val, predict or export, or `yolo help`"),
        ("mode=trian model=m", "did you mean 'train'?"),
        ("detect", "say what to do, train, val, predict or export"),
        ("model=m.yaml", "say what to do"),
        ("train mode=val model=m", "the mode is given twice"),
        ("train", "model= is missing; for example `yolo train model="),
        ("train model=m.yaml", "data= is missing; for example `yolo train"),
        ("predict model=m.pt", "source= is missing; for example `yolo predict"),
        ("train model=m data=d epoch=3", "did you mean 'epochs'?"),
        ("train model=m data=d epochs 3", "write epochs=3"),
        ("track model=m", "there is no tracking here"),
        ("segment train model=m", "has no segmentation"),
        ("train model=m data=d task=segment", "task: expected one of 'detect'"),
        ("train model=m data=d imgsz=320,640", "write imgsz=640"),
        ("version 3", "yolo version: takes nothing more, got '3'"),
        ("train cfg=nope.yaml", "nope.yaml: no such file"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(line, message, calls, capsys):
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert calls == []


def test_options_are_checked_before_torch_is_imported(tmp_path):
    run = yolo(
        "train", "model=m.yaml", "data=d.yaml", "imgsz=x", folder=tmp_path, prelude="sys.modules['torch'] = None;"
    )
    assert run.returncode == 2
    assert (
        run.stderr == "error: imgsz: expected a whole number of at least 32 or two such numbers [height, width]; "
        "got 'x' (str)\n"
    )


def yolo(*words: str, folder: Path, prelude: str = "") -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    code = f"import sys; {prelude} from ultralytics.cfg import entrypoint; entrypoint()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("word", "start"),
    [
        ("version", f"{ultralytics.__version__}\n"),
        ("--version", f"{ultralytics.__version__}\n"),
        ("help", "yolo [detect] train|val|predict|export key=value"),
        ("-h", "yolo [detect] train|val|predict|export key=value"),
        ("cfg", "# Every option of train, val and predict"),
    ],
)
def test_words_answered_without_torch(word, start, tmp_path):
    run = yolo(word, folder=tmp_path, prelude="sys.modules['torch'] = None;")  # importing it would fail
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(start)


def test_no_words_are_a_call_for_help(capsys):
    assert main([]) == 0
    assert "yolo [detect]" in capsys.readouterr().out


def test_copy_cfg_writes_a_file_that_can_be_used_and_keeps_one_that_is_there(tmp_path, monkeypatch, calls, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["copy-cfg"]) == 0
    copy = tmp_path / "default_copy.yaml"
    assert copy.read_bytes() == DEFAULT_CFG_PATH.read_bytes()
    assert get_cfg(copy) == get_cfg()

    copy.write_text("epochs: 3\nmodel: m.yaml\ndata: d.yaml\n", encoding="utf-8")
    assert main(["copy-cfg"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["train", "cfg=default_copy.yaml", "batch=2"]) == 0
    assert calls == [("train", "m.yaml", {"epochs": 3, "data": "d.yaml", "batch": 2})]


def test_checks_is_asked(monkeypatch, capsys):
    monkeypatch.setattr("ultralytics.utils.checks.checks", lambda: print("asked"))
    assert main(["checks"]) == 0
    assert capsys.readouterr().out == "asked\n"


def test_ctrl_c_is_130(calls, monkeypatch):
    def interrupt(self, **overrides):
        raise KeyboardInterrupt

    monkeypatch.setattr(ultralytics.RTDETR, "train", interrupt)
    assert main(["train", "model=rtdetr-r18.yaml", "data=d"]) == 130
