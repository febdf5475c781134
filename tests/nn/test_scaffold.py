"""`yolo new`: what it writes builds, passes the checks and learns; what would go wrong is refused before writing."""

from pathlib import Path

import pytest
import torch

from tests.golden.inputs import train_batch
from ultralytics.nn.module_check import check_module, scaffold
from ultralytics.nn.module_check.scaffold import KINDS, command
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.errors import UserError


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("skip", [["onnx"], pytest.param([], marks=pytest.mark.slow)], ids=["quick", "all checks"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_passes_the_checks_and_learns(kind, skip, capsys):
    name = f"New{kind.title()}"
    command(name, kind, folder="my modules")
    shown = capsys.readouterr().out
    models = [f"rtdetr-new{kind}.yaml", f"yolo11-new{kind}.yaml"]
    assert Path("my modules", f"{name}.py").is_file() and f"yolo check module={name}" in shown
    assert all(f"yolo train model={model} data=shapes.yaml epochs=1\n" in shown for model in models)
    report = check_module(name, {"fusion": [64]}.get(kind), modules=["my modules"], skip=skip)
    assert not report.failed, report.table()
    assert report["shapes"].status == "passed"

    for file in models:
        model = DetectionModel(file, nc=3).train()
        used = [layer for layer in model.model if layer.type.endswith(f".{name}")]
        assert len(used) == {"backbone": 1, "conv": 2, "attention": 1, "fusion": 4}[kind]
        loss, _ = model({k: torch.from_numpy(v) for k, v in train_batch(0, 64, 64, (1, 1), nc=3).items()})
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for layer in used for p in layer.parameters())


def test_several_modules_in_one_folder():
    names = {"FirstOfThree": "conv", "SecondOfThree": "fusion", "ThirdOfThree": "attention"}
    for name, kind in names.items():
        command(name, kind, folder="three")
        DetectionModel(f"rtdetr-{name.lower()}.yaml")
    for name in names:
        model = DetectionModel(f"rtdetr-{name.lower()}.yaml")
        assert f"ultralytics.nn.three.{name}.{name}" in [layer.type for layer in model.model]


def test_without_a_folder_the_package_s_own_is_used(working_folder, monkeypatch):
    package = working_folder / "Addmodules"
    package.mkdir()
    monkeypatch.setattr(scaffold, "ADDMODULES", package)
    command("InThePackage", "attention")
    assert (package / "InThePackage.py").is_file()
    assert "\nmodules:" not in Path("rtdetr-inthepackage.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("my-net", "not a valid class name"),
        ("class", "not a valid class name"),
        ("__init__", "not a valid class name"),
        ("_Net", "not a valid class name"),
        *((name, "has another meaning in Python or YAML") for name in ("nn", "super", "yes", "null")),
        ("Conv", "defines a module of this name"),
        ("EfficientViT_M0", "defines a module of this name"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(module, message, working_folder):
    with pytest.raises(UserError, match=message):
        command(module, "conv", folder="here")
    assert list(working_folder.iterdir()) == []


def test_a_file_instead_of_a_folder_is_refused(working_folder):
    Path("here").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="folder=here: expected a folder, got a file"):
        command("MyNet", "conv", folder="here")


def test_nothing_is_overwritten(working_folder):
    Path("rtdetr-taken.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"rtdetr-taken\.yaml: exists already"):
        command("Taken", "conv", folder="here")
    assert not Path("here").exists() and Path("rtdetr-taken.yaml").read_text(encoding="utf-8") == "mine"
    Path("here").mkdir()
    Path("here", "Other.py").write_text("# mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"Other\.py: exists already"):
        command("Other", "conv", folder="here")
    assert not Path("rtdetr-other.yaml").exists() and not Path("yolo11-other.yaml").exists()
