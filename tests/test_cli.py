"""The `yolo` command and the scripts, with a stand-in for models that records its calls."""

import os
import runpy
import shlex
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import pytest

import ultralytics
from ultralytics.cfg.options import DEFAULT_CFG_PATH, get_cfg
from ultralytics.cli import main, parse_call, parse_options, run_guarded
from ultralytics.utils.errors import OptionError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def calls(monkeypatch):
    """Calls of a model as (method, model, keyword arguments)."""
    recorded = []

    class FakeModel:
        def __init__(self, model, **options):
            self.model = model

        def record(self, method, **options):
            recorded.append((method, self.model, options))

        train, val = partialmethod(record, "train"), partialmethod(record, "val")

        def predict(self, method="predict", **options):
            yield "first"
            self.record(method, **options)  # reached when the stream is consumed

        track, tune = partialmethod(predict, "track"), partialmethod(record, "tune")

    monkeypatch.setattr("ultralytics.models.Model", FakeModel)
    return recorded


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("detect train model=m.yaml data=d.yaml epochs=72", ("train", "m.yaml", {"data": "d.yaml", "epochs": 72})),
        ("train model=m.yaml data=d.yaml device=0", ("train", "m.yaml", {"data": "d.yaml", "device": "0"})),
        ("model=m.yaml mode=train data=d.yaml task=detect", ("train", "m.yaml", {"data": "d.yaml"})),
        ("train resume=last.pt", ("train", "last.pt", {"resume": "last.pt"})),
        ("train model=last.pt resume=True", ("train", "last.pt", {"resume": True})),
        ("val --model best.pt --plots False", ("val", "best.pt", {"plots": False})),
        ("train detect model=m.yaml data=d.yaml", ("train", "m.yaml", {"data": "d.yaml"})),
        ("train model=last.pt resume,", ("train", "last.pt", {"resume": True})),
        ("model=m.yaml plots data=d.yaml train detect", ("train", "m.yaml", {"plots": True, "data": "d.yaml"})),
        ("--mode val --model b.pt --name detect", ("val", "b.pt", {"name": "detect"})),
        ("predict model=b.pt source=0 save=False", ("predict", "b.pt", {"source": 0, "stream": True, "save": False})),
        ("track model=b.pt source=v.mp4", ("track", "b.pt", {"source": "v.mp4", "stream": True, "save": True})),
        ("tune model=m.yaml data=d.yaml iterations=5 space=lr0,mosaic",
         ("tune", "m.yaml", {"data": "d.yaml", "iterations": 5, "space": "lr0,mosaic"})),
        ("tune model=m.yaml resume", ("tune", "m.yaml", {"resume": True})),
        ("val model=b.pt copy_paste=0.3 --erasing 0.4", ("val", "b.pt", {"copy_paste": 0.3, "erasing": 0.4})),
        ("val model=b.pt profile line_thickness=2", ("val", "b.pt", {"profile": True, "line_thickness": 2})),
    ],
)  # fmt: skip
def test_mode_calls_the_model(line, call, calls):
    assert main(line.split()) == 0
    assert calls == [call]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian model=m.yaml", "yolo: unknown command 'trian'; did you mean 'train'?"),
        ("xyz", "expected train, val, predict, export, track, tune; see `yolo help`"),
        ("detect", "yolo: no mode given; expected train, val"),
        ("train mode=val model=m", "the mode is given twice"),
        ("train", "model= is missing; for example `yolo train model="),
        ("train model=m.yaml", "data= is missing; for example `yolo train"),
        ("predict", "model= is missing; for example `yolo predict"),
        ("train resume project=nowhere", "resume=True: no run in nowhere; write resume=FOLDER"),
        ("val resume", "model= is missing; for example `yolo val"),
        ("pose model=m", "yolo pose: not implemented"),
        ("train segment model=m", "yolo segment: not implemented"),
        ("solutions count source=a.mp4", "yolo solutions: not implemented"),
        ("settings reset", "yolo settings: nothing is stored"),
        ("train \u2013epochs 3", "write epochs=3"),
        ("train epochs\uff1d3", "write epochs=3"),
        ("version 3", "yolo version: unexpected argument '3'"),
        ("detect benchmark epochs=3", "yolo benchmark: unknown argument 'epochs=3'"),
        ("val model=b.pt keras=True", "option 'keras' is not supported: export has"),
        ("train cfg=nope.yaml", "nope.yaml: no such file"),
    ],
)
def test_user_errors_are_one_line_and_exit_code_2(line, message, calls, capsys):
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert calls == []


@pytest.mark.parametrize(
    ("line", "code", "output"),
    [
        ("", 0, "yolo [detect] train|val|predict|track|tune|export key=value"),
        ("train --help", 0, "yolo train model=rtdetr-efficientvit-m0.yaml"),
        ("detect train help", 0, "yolo train model=rtdetr-efficientvit-m0.yaml"),
        ("cfg epochs", 0, "epochs: {RT-DETR: 72, YOLO: 100}  # (train) number of epochs."),
        ("cfg epoch", 2, "error: unknown option 'epoch'; did you mean 'epochs'?"),
        ("completion bash", 0, '# eval "$(yolo completion bash)"\n_yolo() {\n    [[ ${COMP_WORDS['),
        ("completion sh", 2, "error: yolo completion: expected one of bash, zsh, fish, got 'sh'"),
        ("--version", 0, f"{ultralytics.__version__}\n"),
        ("cfg", 0, "# Every option of train, val, predict and export"),
        ("train model=m.yaml data=d.yaml imgsz=x", 2, "error: imgsz: expected an integer >= 32 or a list of integers"),
    ],
)
def test_commands_and_option_errors_do_not_import_torch(line, code, output, tmp_path):
    program = "import sys; sys.modules['torch'] = None; from ultralytics.cfg import entrypoint; entrypoint()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *line.split()]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (run.returncode, (run.stdout + run.stderr)[: len(output)]) == (code, output)


def test_copy_cfg_writes_a_usable_file_and_keeps_an_existing_one(tmp_path, monkeypatch, calls, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["copy-cfg"]) == 0
    copy = tmp_path / "default_copy.yaml"
    assert copy.read_bytes() == DEFAULT_CFG_PATH.read_bytes()
    assert get_cfg(copy) == get_cfg()

    copy.write_text("epochs: 3\nmodel: m.yaml\ndata: d.yaml\nname: null\nbatch: 4\n", encoding="utf-8")
    assert main(["copy-cfg"]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(["train", "cfg=default_copy.yaml", "batch=2"]) == 0  # which has priority; null is no choice
    assert calls == [("train", "m.yaml", {"epochs": 3, "data": "d.yaml", "batch": 2})]


def test_interruption_has_its_exit_code(capsys):
    def action():
        raise KeyboardInterrupt

    assert run_guarded(action) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("epochs=72 lr0=1e-4", {"epochs": 72, "lr0": 1e-4}),
        ("--epochs 72 --lr0=1e-4", {"epochs": 72, "lr0": 1e-4}),
        ("--save-txt --half epochs=3", {"save_txt": True, "half": True, "epochs": 3}),
        ("--plots False --amp", {"plots": False, "amp": True}),
        ("--save_period -1", {"save_period": -1}),
        ("source=rtsp://host/a?b=c 'name=my run=1'", {"source": "rtsp://host/a?b=c", "name": "my run=1"}),
        ("--weights a.pt", {"model": "a.pt"}),
        ("", {}),
        ("epochs = 3 batch= 4 imgsz =64", {"epochs": 3, "batch": 4, "imgsz": 64}),
        ("classes=[0, 1] imgsz=[96], epochs=3,", {"classes": [0, 1], "imgsz": [96], "epochs": 3}),
        ("classes=0, 1 device = 0, 1 , epochs=3", {"classes": [0, 1], "device": "0,1", "epochs": 3}),
        (
            "--classes 0 2 --imgsz 64 96 --resume --cache epochs=3",
            {"classes": [0, 2], "imgsz": [64, 96], "resume": True, "cache": True, "epochs": 3},
        ),
        (
            "source=[a.jpg, b.jpg] freeze=[backbone] amp=no",
            {"source": ["a.jpg", "b.jpg"], "freeze": ["backbone"], "amp": False},
        ),
        ("save=1 plots=0 save_txt resume", {"save": True, "plots": False, "save_txt": True, "resume": True}),
    ],
)
def test_options_are_parsed(line, given):
    assert parse_options(shlex.split(line), {"weights": "model"}) == given


@pytest.mark.parametrize("line", ["help fps", "fps --help", "fps model=a.pt -h"])
def test_help_of_a_tool(line, capsys):
    assert main(line.split()) == 0
    assert capsys.readouterr().out.startswith("usage: yolo fps model=... [imgsz=640]")


def test_resume_without_a_model_is_that_of_the_newest_run(tmp_path, monkeypatch, calls, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "resume"]) == 2 and "no run in runs/detect" in capsys.readouterr().err
    for age, name in enumerate(("train2", "train")):
        file = tmp_path / "runs/detect" / name / "weights/last.pt"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (1e9 - age, 1e9 - age))
    assert main(["train", "resume=True"]) == 0
    assert calls == [("train", str(Path("runs/detect/train2/weights/last.pt")), {"resume": True})]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs", "72"], "cannot read 'epochs'; write epochs=72"),
        (["--epochs"], "--epochs: the value is missing; write --epochs VALUE"),
        (["--=3"], "name or value is missing"),
        (["epochs=3", "--epochs", "5"], "epochs: given twice (3 and '5')"),
        (["--batchsize", "3"], "unknown option 'batchsize'; did you mean 'batch'?"),
        (["modle=a.yaml"], "unknown option 'modle'; did you mean 'model'?"),
        (["weight=a.pt"], "unknown option 'weight'; did you mean 'model'?"),
        (["lr0=-1"], "lr0: expected a number > 0, got -1.0 (float)"),
        (["epochs=many"], "epochs: expected an integer >= 1, got 'many' (str)"),
        (["best.pt"], "write model=best.pt"),
        (["coco.yaml"], "write data=coco.yaml for a dataset"),
        (["bus.jpg"], "for example epochs=72"),
        (["epochs=3", "train"], "the mode is the first word: yolo train"),
    ],
)
def test_option_errors_have_a_correction(words, message):
    with pytest.raises(OptionError) as caught:
        parse_options(words)
    assert message in str(caught.value)


def tool(runs: list[str], size: int = 3, half: bool = False, names: str | None = None) -> None:
    """Represent the function of a tool."""


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["a", "b/c", "size=4"], {"runs": ["a", "b/c"], "size": 4}),
        (["runs=a,b", "--size", "4", "--half"], {"runs": ["a", "b"], "size": 4, "half": True}),
        (["a", "--many", "5"], {"runs": ["a"], "size": 5}),
    ],
)
def test_tool_arguments_are_parsed(words, arguments):
    assert parse_call(tool, words, "yolo tool", {"many": "size"}) == arguments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["size=4"], "yolo tool: runs= is missing; usage: yolo tool runs=... [size=3]"),
        (["a", "--size"], "yolo tool: --size: the value is missing"),
        (["a", "size=x"], "yolo tool: size: expected an integer, got 'x'"),
        (["a", "runs=b"], "yolo tool: runs: given twice"),
        (["a", "sise=3"], "yolo tool: unknown argument 'sise=3'; did you mean 'size'?"),
    ],
)
def test_tool_errors_have_the_usage(words, message):
    with pytest.raises(OptionError) as caught:
        parse_call(tool, words, "yolo tool")
    assert str(caught.value).startswith(message) and "usage: yolo tool" in str(caught.value)


@pytest.fixture
def script(monkeypatch, calls):
    """Run the command line of a script; return its exit code and the calls of RTDETR."""

    def run(line: str) -> tuple[int, list]:
        words = line.split()
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as exited:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        return exited.value.code, calls

    return run


def test_train_script_uses_its_recipe_only_without_data_and_resume(script):
    code, [(method, model, recipe)] = script("train.py")
    assert (code, method, model) == (0, "train", "rtdetr-efficientvit-m0.yaml")
    assert get_cfg(overrides=recipe).data == "shapes.yaml"
    _, [*_, changed] = script("train.py --epochs 1 --model mine.yaml")
    assert changed == ("train", "mine.yaml", {**recipe, "epochs": 1})
    _, [*_, own_data] = script("train.py --data my.yaml --epochs 72")
    assert own_data == ("train", "rtdetr-efficientvit-m0.yaml", {"data": "my.yaml", "epochs": 72})
    _, [*_, resumed] = script("train.py --resume last.pt")
    assert resumed == ("train", "last.pt", {"resume": "last.pt"})


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("val.py --weights b.pt --data d.yaml", ("val", "b.pt", {"split": "val", "data": "d.yaml"})),
        ("val.py", ("val", "runs/detect/train/weights/best.pt", {"split": "val"})),
        (
            "detect.py --weights b.pt --source a.jpg --conf 0.5",
            ("predict", "b.pt", {"stream": True, "save": True, "source": "a.jpg", "conf": 0.5}),
        ),
    ],
)
def test_scripts_call_the_model(script, line, call):
    assert script(line) == (0, [call])


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("train.py --epoch 3", 2, "did you mean 'epochs'?"),
        ("val.py --weight best.pt", 2, "did you mean 'weights'?"),
        ("val.py best.pt", 2, "write model=best.pt"),
        ("train.py --help", 0, "python train.py"),
        ("val.py -h", 0, "python val.py"),
    ],
)
def test_scripts_print_errors_and_help(script, line, code, message, capsys):
    assert script(line) == (code, [])
    assert message in "".join(capsys.readouterr())
