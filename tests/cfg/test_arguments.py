"""The words of a command line."""

from __future__ import annotations

import errno
import sys

import pytest

from ultralytics.cli import parse_arguments, parse_call, parse_value, run_guarded, run_script
from ultralytics.utils.errors import DataError, OptionError, UserError


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["epochs=72", "lr0=1e-4"], {"epochs": 72, "lr0": 1e-4}),
        (["--epochs", "72", "--lr0=1e-4"], {"epochs": 72, "lr0": 1e-4}),
        (["--save-txt", "--half", "epochs=3"], {"save_txt": True, "half": True, "epochs": 3}),
        (["--plots", "False", "--amp"], {"plots": False, "amp": True}),
        (["--save_period", "-1"], {"save_period": -1}),
        (["source=rtsp://host/a?b=c"], {"source": "rtsp://host/a?b=c"}),
        (["name=my run=1"], {"name": "my run=1"}),
        ([], {}),
    ],
)
def test_three_ways_to_write_an_option(words, given):
    assert parse_arguments(words) == given


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("name", "007", "007"),
        ("name", "true", "true"),
        ("name", "none", None),
        ("model", "12", "12"),
        ("lr0", ".5", 0.5),
        ("lr0", "1", 1),
        ("epochs", "3.5", 3.5),
        ("epochs", "true", True),
        ("epochs", "many", "many"),
        ("conf", "None", None),
        ("cache", "ram", "ram"),
        ("cache", "True", True),
        ("source", "0", 0),
        ("source", "a,b.jpg", "a,b.jpg"),
        ("device", "0,1", [0, 1]),
        ("device", "cpu", "cpu"),
        ("classes", "[0, 2]", [0, 2]),
        ("classes", "(0,2)", [0, 2]),
        ("classes", "[3]", [3]),
        ("classes", "3", 3),
        ("imgsz", "320,640", [320, 640]),
        ("imgsz", "[]", "[]"),
        ("lr0", "__import__('os')", "__import__('os')"),
    ],
)
def test_a_value_is_read_by_what_its_option_may_be(key, text, value):
    read = parse_value(key, text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs", "72"], "cannot read 'epochs'; write epochs=72"),
        (["epochs"], "write epochs=VALUE"),
        (["epochs:", "72"], "write epochs=72"),
        (["-epochs", "72"], "write epochs=72"),
        (["epochs", "=", "72"], "without spaces around '='"),
        (["epochs=", "72"], "without spaces around '='"),
        (["epochs", "=72"], "cannot read 'epochs'"),
        (["--epochs"], "--epochs: its value is missing"),
        (["--epochs", "--batch", "3"], "--epochs: its value is missing"),
        (["--epochs="], "name or value is missing"),
        (["--=3"], "name or value is missing"),
        (["epochs=3", "--epochs", "5"], "epochs: given twice (3 and '5')"),
        (["epoch=3"], "unknown option 'epoch'; did you mean 'epochs'?"),
        (["--batchsize", "3"], "unknown option 'batchsize'; did you mean 'batch'?"),
        (["lr0=-1"], "lr0: expected a number above 0; got -1 (int)"),
        (["epochs=many"], "epochs: expected a whole number of at least 1; got 'many' (str)"),
        (["iou=0.5"], "has no NMS"),
        (["best.pt"], "write model=best.pt"),
        (["coco.yaml"], "write data=coco.yaml for a data set"),
        (["bus.jpg"], "for example epochs=72"),
        (["epochs=3", "train"], "it goes first: yolo train"),
        (["weights=a.pt"], "called 'model' here"),
    ],
)
def test_mistakes_are_answered_with_the_way_to_write_it(words, message):
    with pytest.raises(OptionError) as caught:
        parse_arguments(words)
    assert message in str(caught.value)


def test_a_scripts_own_names():
    assert parse_arguments(["--weights", "a.pt"], {"weights": "model"}) == {"model": "a.pt"}


def test_cfg_stands_for_the_options_of_a_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 5\nname: null\nbatch: 2\n", encoding="utf-8")
    assert parse_arguments([f"cfg={file}", "epochs=7"]) == {"epochs": 7, "batch": 2}
    assert parse_arguments(["--cfg", str(file)]) == {"epochs": 5, "batch": 2}


def raising(error: BaseException):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("my.yaml: no such file"), 2, "error: my.yaml: no such file\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "last.pt"), 2, "error: last.pt: no space left"),
    ],
)
def test_what_a_user_can_mend_is_one_line_on_stderr(error, code, line, capsys):
    assert run_guarded(raising(error)) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_faults_of_ours_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_guarded(raising(ZeroDivisionError()))
    with pytest.raises(PermissionError):
        run_guarded(raising(PermissionError(errno.EACCES, "denied")))


def test_a_script_hands_over_its_options_and_exits(monkeypatch, capsys):
    got = []
    monkeypatch.setattr(sys, "argv", ["val.py", "--weights", "a.pt", "batch=3"])
    with pytest.raises(SystemExit) as exited:
        run_script(got.append, "usage", {"weights": "model"})
    assert exited.value.code == 0
    assert got == [{"model": "a.pt", "batch": 3}]

    monkeypatch.setattr(sys, "argv", ["val.py", "--help"])
    with pytest.raises(SystemExit) as exited:
        run_script(raising(UserError("not called")), "\nhow to use it\n")
    assert exited.value.code == 0
    assert capsys.readouterr().out == "how to use it\n"


def tool(runs: list[str], size: int = 3, half: bool = False, names: str | None = None) -> None:
    """Stands for a command that takes words."""


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["a", "b/c", "size=4"], {"runs": ["a", "b/c"], "size": 4}),
        (["runs=a,b", "--size", "4", "--half"], {"runs": ["a", "b"], "size": 4, "half": True}),
        (["--half", "False", "a"], {"half": False, "runs": ["a"]}),
        (["--half", "a", "--names=x,y"], {"half": True, "runs": ["a"], "names": "x,y"}),
        (["a", "--many", "5"], {"runs": ["a"], "size": 5}),
    ],
)
def test_words_of_a_tool(words, arguments):
    assert parse_call(tool, words, "yolo tool", {"many": "size"}) == arguments


def choosing(kinds: str | list[str] = "a") -> None:
    """Takes one text or several, but no words without a key."""


def test_words_without_a_key_are_for_lists_only():
    assert parse_call(choosing, ["kinds=a,b"], "yolo choosing") == {"kinds": "a,b"}
    with pytest.raises(OptionError, match="unknown word 'a'"):
        parse_call(choosing, ["a"], "yolo choosing")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["size=4"], "yolo tool: runs= is missing; it takes runs=... [size=3]"),
        (["a", "--size"], "yolo tool: the value of size is missing"),
        (["a", "--size", "--half"], "yolo tool: the value of size is missing"),
        (["a", "size=x"], "size: expected a whole number; got 'x'"),
        (["a", "runs=b"], "runs is given twice"),
        (["a", "sise=3"], "unknown word 'sise=3'; did you mean 'size'?"),
    ],
)
def test_mistakes_in_the_words_of_a_tool(words, message):
    with pytest.raises(OptionError) as caught:
        parse_call(tool, words, "yolo tool")
    assert message in str(caught.value)
