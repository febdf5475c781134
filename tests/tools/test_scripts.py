"""The scripts in tools/ are the commands of `yolo` under common names."""

import importlib
import runpy
import sys
from pathlib import Path

import pytest

from ultralytics.cli import HELP, TOOLS

FOLDER = Path(__file__).resolve().parents[2] / "tools"
SCRIPTS = {
    "get_FPS.py": "fps",
    "main_profile.py": "profile",
    "get_all_yaml_param_and_flops.py": "models",
    "heatmap.py": "heatmap",
    "get_model_erf.py": "erf",
    "plot_result.py": "plot-results",
    "get_COCO_metrice.py": "evaluate",
    "ablation_table.py": "table",
    "dataset/yolo2coco.py": "yolo2coco",
    "dataset/xml2txt.py": "xml2txt",
    "dataset/split_data.py": "split",
}


def run(script: str, *words: str, monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", [str(FOLDER / script), *words])
    with pytest.raises(SystemExit) as exited:
        runpy.run_path(str(FOLDER / script), run_name="__main__")
    return exited.value.code


@pytest.mark.parametrize(("script", "command"), SCRIPTS.items())
def test_help_names_the_script_and_its_command(script, command, monkeypatch, capsys):
    assert run(script, "--help", monkeypatch=monkeypatch) == 0
    text = capsys.readouterr().out
    assert f"python tools/{script}" in text and f"`yolo {command} " in text
    assert f"yolo {command} " in HELP
    module, _, function = TOOLS[command].partition(":")
    function = function or "command"
    assert runpy.run_path(str(FOLDER / script))[function] is getattr(importlib.import_module(module), function)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_word_is_one_line(script, monkeypatch, capsys):
    assert run(script, "--nonsense", "3", monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {Path(script).name}: unknown argument '--nonsense'") and error.count("\n") == 1


def test_argument_names_of_other_scripts(tmp_path, monkeypatch, capsys):
    assert run("get_COCO_metrice.py", "--anno_json", "no.json", "--pred_json", "p.json", monkeypatch=monkeypatch) == 2
    assert "no.json: no such file" in capsys.readouterr().err
    assert run("get_FPS.py", "--weights", str(tmp_path / "no.pt"), monkeypatch=monkeypatch) == 2
    assert "no.pt" in capsys.readouterr().err
    words = ("--weight", str(tmp_path / "none.pt"), "--dataset", "images", "--layer", "4", "--num_images", "3")
    assert run("get_model_erf.py", *words, monkeypatch=monkeypatch) == 2
    assert "none.pt" in capsys.readouterr().err
