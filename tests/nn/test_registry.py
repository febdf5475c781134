"""Registration of modules, and the search for module files."""

import os
import re
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch import nn

from ultralytics.nn import plans
from ultralytics.nn.parser import build_module
from ultralytics.nn.plans import RowContext
from ultralytics.nn.registry import (
    ADDMODULES,
    REGISTRY,
    VARIABLE,
    RegisteredModule,
    Registry,
    import_folder,
    missing_names,
    module_folders,
    register,
    resolve_module,
)
from ultralytics.utils.errors import ModelConfigError

FOLDER = "tests/nn/fork_modules"
GATE = """
from torch import nn
class {name}(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 1)
    def forward(self, x):
        return x * self.conv(x.mean((2, 3), keepdim=True))
"""
REGISTERED = """
from ultralytics.nn import plans
from ultralytics.nn.registry import register
""" + GATE.replace("class", "@register(plans.channel_preserving)\nclass")


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_a_name_registered_from_two_files_is_an_error():
    registry = Registry()
    for kind in (nn.Identity, nn.ReLU):  # from one file, as a notebook cell that is run twice
        registry.add(RegisteredModule("Net", kind, plans.conv, "a.py"))
    assert registry["Net"].build is nn.ReLU
    with pytest.raises(ModelConfigError, match=r"'Net' is defined twice: a\.py and b\.py"):
        registry.add(RegisteredModule("Net", nn.Identity, plans.conv, "b.py"))


def test_a_class_of_a_notebook_may_be_registered():
    kind = types.new_class("FromNotebook", (nn.Module,))
    kind.__module__ = "__nowhere__"
    register(plans.channel_preserving)(kind)
    assert REGISTRY.pop("FromNotebook").origin == "__nowhere__"


@pytest.mark.parametrize(("channels", "scaled"), [(64, 32), (2048, 512), (9, 8), (10, 10), (50, 32)])
def test_channels_are_limited_scaled_and_rounded_up(channels, scaled):
    assert RowContext((3,), nc=10, width=0.5, max_channels=1024).scaled(channels) == scaled


def test_folders_of_the_variable_are_searched_first(tmp_path, monkeypatch):
    write(tmp_path, Mine=GATE.format(name="Mine"))
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(tmp_path), FOLDER]))
    assert module_folders()[0] == tmp_path and module_folders()[-1] == ADDMODULES
    assert build_module("Mine").outputs == [(64, 32, 32)]
    assert resolve_module("SepConv").origin.endswith("conv.py")
    monkeypatch.setenv(VARIABLE, "no/such/folder")
    with pytest.raises(ModelConfigError, match=r"no/such/folder is not a folder; .*ULTRALYTICS_MODULES"):
        resolve_module("Conv")


def test_files_import_each_other_and_print_nothing(capsys):
    build_module("CSPGate", [64], modules=[FOLDER])
    assert capsys.readouterr().out == ""


def test_a_package_that_is_not_installed_concerns_only_what_uses_it():
    reason = (
        "needs_package.py, line 1: it needs the package 'a_package_that_nobody_has' "
        "(pip install a_package_that_nobody_has)"
    )
    import_folder(module_folders([FOLDER])[0])
    assert reason in missing_names()
    with pytest.raises(ModelConfigError, match=re.escape(f"Unreachable(64, 64) cannot be built: {reason}")):
        build_module("Unreachable", modules=[FOLDER])
    layer = build_module("Blocks", [64, "PlainBlock", 2], repeats=2, modules=[FOLDER])
    assert layer.outputs == [(128, 32, 32)] and layer.type.endswith("fork_modules.blocks.Blocks")
    with pytest.raises(ModelConfigError, match=re.escape(f"cannot be built: {reason}")):
        build_module("Blocks", [64, "Unreachable", 2], modules=[FOLDER])


def test_star_imports_of_failing_files_may_be_chained(tmp_path):
    write(
        tmp_path,
        fails="class Lost(1 / 0): pass",
        cannot_parse="class Broken(:",
        middle="from .fails import *\nfrom .cannot_parse import *",
        top="from .middle import *\n" + GATE.format(name="Top"),
        by_name="from .fails import Lost\n" + GATE.format(name="ByName"),
        behind="from .by_name import *\n" + GATE.format(name="Behind"),
    )
    folder = import_folder(tmp_path.resolve())
    assert sorted(folder.definitions) == ["Behind", "ByName", "Top"]
    assert [file.stem for file in folder.failures] == ["cannot_parse"]
    (missing,) = folder.package.missing_reasons.values()
    assert missing == "fails.py, line 1: 'Lost': ZeroDivisionError: division by zero"


def test_our_module_does_not_replace_one_that_failed_to_import(tmp_path):
    write(
        tmp_path,
        __init__="from .ResNet import *\nfrom .Other import *",
        ResNet="class ConvNormLayer(1 / 0): pass\nclass Conv(1 / 0): pass",
        Other="__all__ = ['Mine']\nclass ADown(1 / 0): pass\nclass Mine: pass",
    )
    with pytest.raises(ModelConfigError, match=r"'ConvNormLayer': .*ResNet\.py defines it but was not"):
        build_module("ConvNormLayer", [64, 3, 1, 1, "relu"], modules=[tmp_path])
    assert build_module("Conv", [64], modules=[tmp_path]).type == "ultralytics.nn.modules.conv.Conv"
    assert build_module("ADown", [64], modules=[tmp_path]).outputs == [(64, 16, 16)]  # a helper, not in its `__all__`


def test_a_name_of_the_package_means_ours_unless_the_init_imports_the_folders(tmp_path):
    assert build_module("Conv", [8], modules=[FOLDER]).type == "ultralytics.nn.modules.conv.Conv"
    layer = build_module("conv.Conv", [8], modules=[FOLDER])
    assert layer.type.endswith("fork_modules.conv.Conv") and layer.arguments == "c1=64, c2=8"
    layer = build_module("Blocks", [32, "PlainBlock", 2], repeats=2, modules=[FOLDER])
    assert layer.arguments == "ch_in=64, ch_out=32, count=2, block=PlainBlock, stage_num=2"
    write(tmp_path, blocks=GATE.format(name="Blocks"))
    alone = build_module("Blocks", [32, "BasicBlock", 2, 3], modules=[tmp_path])
    assert alone.type == "ultralytics.nn.modules.block.Blocks"


def test_two_definitions_of_a_name_are_an_error_that_names_both_files(tmp_path):
    gate = GATE.format(name="Twice")
    folder = write(tmp_path / "twice", twice_a=gate, twice_b=gate.replace("dim, 1)", "dim, 3, 1, 1)"))
    with pytest.raises(ModelConfigError, match=r"'Twice' is defined twice: .*twice_a\.py and .*twice_b\.py"):
        build_module("Twice", modules=[folder])
    assert build_module("twice_b.Twice", modules=[folder]).conv.kernel_size == (3, 3)
    helpers = import_folder(module_folders([FOLDER])[0]).definitions["DropPath"]  # helpers of one name do no harm
    assert {Path(helper.origin).stem for helper in helpers} == {"conv", "nets"}

    text = REGISTERED.format(name="Registered")
    with pytest.raises(ModelConfigError, match=r"'Registered' is defined twice: .*one\.py and .*two\.py"):
        build_module("Registered", modules=[write(tmp_path / "registered", one=text, two=text)])

    folder = write(tmp_path / "namesake", RepC3=GATE.format(name="RepC3"))
    with pytest.raises(ModelConfigError, match=r"'RepC3' is defined twice: .*block\.py and .*RepC3\.py; rename one"):
        build_module("RepC3", [64], modules=[folder])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:", "SyntaxError: .* \\(bad.py, line 1\\)"),
        ("x = 1\nprint 'version 2'", "SyntaxError: Missing parentheses.* \\(bad.py, line 2\\)"),
        ("if True:\n\tx = 1\n        y = 2", "TabError: .* \\(bad.py, line 3\\)"),
        ("x = 1\0", "SyntaxError: .*null bytes \\(bad.py, line .*\\)"),
    ],
)
def test_reasons_of_failed_imports(tmp_path, text, reason):
    write(tmp_path, bad=text, good=GATE.format(name="Good"))
    assert build_module("Good", modules=[tmp_path]).np == 64 * 64 + 64
    (got,) = import_folder(tmp_path.resolve()).failures.values()
    assert re.fullmatch(reason, got)


def test_folders_of_one_name_become_different_packages(tmp_path):
    folders = [write(tmp_path / str(i) / "extra", Net=GATE.format(name=f"Net{i}")) for i in (0, 1)]
    names = [import_folder(folder.resolve()).package.__name__ for folder in folders]
    assert names[0] == "ultralytics.nn.extra" and names[1].startswith("ultralytics.nn.extra_")
    assert all(name in sys.modules for name in names)


def test_a_file_of_the_user_replaces_an_example_of_the_package(tmp_path):
    assert resolve_module("EMA").plan is not None
    write(tmp_path, attention=GATE.format(name="EMA"))
    assert resolve_module("EMA", folders=module_folders([tmp_path])).origin == str(tmp_path / "attention.py")
    assert resolve_module("MultiScaleAttention.EMA").plan is resolve_module("EMA").plan


def test_folders_of_two_models_may_register_the_same_name(tmp_path):
    for name in ("first", "second"):
        folder = write(tmp_path / name, OfAModel=REGISTERED.format(name="OfAModel"))
        assert str(folder) in resolve_module("OfAModel", folders=module_folders([folder])).origin


def test_threads_import_a_folder_one_after_another(tmp_path):
    """And leave standard output as it was."""
    stdout, slow = sys.stdout, "import time\ntime.sleep(0.01)\n" + GATE
    write(tmp_path, **{f"slow{i}": slow.format(name=f"Slow{i}") for i in range(4)})
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: resolve_module("Slow3", [tmp_path.resolve()]), range(8)))
    assert len({module.build for module in found}) == 1 and sys.stdout is stdout
