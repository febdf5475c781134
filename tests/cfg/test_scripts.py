"""train.py, val.py and detect.py hand their options to RTDETR; here a stand-in notes them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

import ultralytics
from ultralytics.cfg import get_cfg

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch):
    """Run a script's command line; returns its exit code and the calls of RTDETR as (method, model, options)."""
    noted = []

    class FakeRTDETR:
        def __init__(self, model):
            self.model = model

        def train(self, **options):
            noted.append(("train", self.model, options))

        def val(self, **options):
            noted.append(("val", self.model, options))

        def predict(self, **options):
            yield "first"
            noted.append(("predict", self.model, options))

    monkeypatch.setattr(ultralytics, "RTDETR", FakeRTDETR, raising=False)

    def run(line: str) -> tuple[int, list]:
        words = line.split()
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as exited:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        return exited.value.code, noted

    return run


def test_train_without_words_trains_the_built_in_data_with_valid_options(script):
    code, [(method, model, options)] = script("train.py")
    assert (code, method, model) == (0, "train", "rtdetr-efficientvit-m0.yaml")
    assert get_cfg(overrides=options).data == "shapes.yaml"


def test_words_change_the_built_in_recipe(script):
    _, [(_, _, standing)] = script("train.py")
    _, [_, (_, model, options)] = script("train.py --epochs 1 --model mine.yaml")
    assert model == "mine.yaml"
    assert options == {**standing, "epochs": 1}


@pytest.mark.parametrize(
    ("line", "call"),
    [
        # The small recipe must not leak into a run on the user's own data, or into one that goes on.
        (
            "train.py --data my.yaml --epochs 72",
            ("train", "rtdetr-efficientvit-m0.yaml", {"data": "my.yaml", "epochs": 72}),
        ),
        ("train.py --resume last.pt", ("train", "last.pt", {"resume": "last.pt"})),
        ("val.py --weights b.pt --data d.yaml", ("val", "b.pt", {"split": "val", "data": "d.yaml"})),
        ("val.py", ("val", "runs/detect/train/weights/best.pt", {"split": "val"})),
        (
            "detect.py --weights b.pt --source a.jpg --conf 0.5",
            ("predict", "b.pt", {"stream": True, "save": True, "source": "a.jpg", "conf": 0.5}),
        ),
        ("detect.py --source 0", ("predict", "runs/detect/train/weights/best.pt", None)),
    ],
)
def test_what_the_scripts_ask_for(script, line, call):
    code, [(method, model, options)] = script(line)
    assert code == 0
    assert (method, model) == call[:2]
    assert call[2] is None or options == call[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("detect.py --weights b.pt", "--source is missing"),
        ("train.py --epoch 3", "did you mean 'epochs'?"),
        ("val.py best.pt", "write model=best.pt"),
    ],
)
def test_mistakes_are_one_line(script, line, message, capsys):
    code, calls = script(line)
    assert (code, calls) == (2, [])
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["train", "val", "detect"])
def test_help_is_the_scripts_own_text(script, name, capsys):
    code, calls = script(f"{name}.py --help")
    assert (code, calls) == (0, [])
    assert f"python {name}.py" in capsys.readouterr().out
