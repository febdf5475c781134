"""Finding module files."""

import os
import re
import sys
from pathlib import Path

import pytest

from ultralytics.nn.parser import build_module
from ultralytics.nn.registry import ADDMODULES, VARIABLE, import_folder, module_folders, resolve_module
from ultralytics.utils.errors import ModelConfigError

FOLDER = "tests/nn/fork_modules"
GATE = """
from torch import nn
class {name}(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, {k})
    def forward(self, x):
        return x * self.conv(x.mean((2, 3), keepdim=True))
"""


def test_a_folder_of_the_variable_is_searched_before_the_packages(tmp_path, monkeypatch):
    (tmp_path / "Mine.py").write_text(GATE.format(name="Mine", k=1))
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(tmp_path), FOLDER]))
    assert module_folders()[0] == tmp_path and module_folders()[-1] == ADDMODULES
    assert build_module("Mine").outputs == [(64, 32, 32)]
    assert resolve_module("SepConv").origin.endswith("conv.py")


def test_a_folder_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setenv(VARIABLE, "no/such/folder")
    with pytest.raises(ModelConfigError, match=r"ULTRALYTICS_MODULES: no/such/folder is not a folder"):
        resolve_module("Conv")


def test_files_import_each_other_and_print_nothing(capsys):
    build_module("CSPGate", [64], modules=[FOLDER])
    assert capsys.readouterr().out == ""


def test_a_file_that_fails_is_named_with_its_package_and_disturbs_nothing(caplog):
    with pytest.raises(ModelConfigError, match=r"no module 'Unreachable'; .*needs_package\.py defines it but was not"):
        build_module("Unreachable", modules=[FOLDER])
    (reason,) = import_folder(module_folders([FOLDER])[0]).failures.values()
    assert reason == "it needs the package 'a_package_that_nobody_has' (pip install a_package_that_nobody_has)"


def test_a_file_that_gathers_one_that_fails_is_imported_without_what_that_gives():
    failures = import_folder(module_folders([FOLDER])[0]).failures
    assert [file.name for file in failures] == ["needs_package.py"]  # blocks.py star-imports it
    layer = build_module("Blocks", [64, "PlainBlock", 2], repeats=2, modules=[FOLDER])
    assert layer.outputs == [(128, 32, 32)] and layer.type.endswith("fork_modules.blocks.Blocks")
    told = r"Blocks\(.*\) cannot be built: KeyError: 'Unreachable'; .*needs_package\.py defines it but was not imported"
    with pytest.raises(ModelConfigError, match=told):
        build_module("Blocks", [64, "Unreachable", 2], modules=[FOLDER])


def test_star_imports_of_files_that_fail_may_be_chained_and_others_keep_their_reason(tmp_path):
    texts = {
        "fails": "import a_package_that_nobody_has\nclass Lost: pass",
        "cannot_parse": "class Broken(:",
        "middle": "from .fails import *\nfrom .cannot_parse import *",
        "top": "from .middle import *\n" + GATE.format(name="Top", k=1),
        "by_name": "from .fails import Lost\n" + GATE.format(name="ByName", k=1),
        "behind": "from .by_name import *\n" + GATE.format(name="Behind", k=1),
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    folder = import_folder(tmp_path.resolve())
    assert sorted(folder.definitions) == ["Behind", "Top"]
    reasons = {file.stem: reason for file, reason in folder.failures.items()}
    assert sorted(reasons) == ["by_name", "cannot_parse", "fails"]
    assert reasons["fails"] == reasons["by_name"] and "a_package_that_nobody_has" in reasons["fails"]
    assert f"{folder.package.__name__}.fails" not in sys.modules


def test_the_packages_module_does_not_stand_in_for_a_gathered_one_that_cannot_be_imported(tmp_path):
    (tmp_path / "__init__.py").write_text("from .ResNet import *\nfrom .Other import *")
    (tmp_path / "ResNet.py").write_text("import a_package_that_nobody_has\nclass ConvNormLayer: pass\nclass Conv: pass")
    (tmp_path / "Other.py").write_text("import another_one\n__all__ = ['Mine']\nclass ADown: pass\nclass Mine: pass")
    with pytest.raises(ModelConfigError, match=r"'ConvNormLayer': .*ResNet\.py defines it but was not imported"):
        build_module("ConvNormLayer", [64, 3, 1, 1, "relu"], modules=[tmp_path])
    assert build_module("Conv", [64], modules=[tmp_path]).type == "ultralytics.nn.modules.conv.Conv"
    assert build_module("ADown", [64], modules=[tmp_path]).outputs == [(64, 16, 16)]  # a helper, not in its `__all__`


def test_two_definitions_of_a_name_are_an_error_that_names_both_files():
    with pytest.raises(ModelConfigError, match=r"'Twice' is defined twice: .*twice_a\.py and .*twice_b\.py"):
        build_module("Twice", modules=[FOLDER])
    assert build_module("twice_b.Twice", modules=[FOLDER]).conv.kernel_size == (3, 3)


def test_helpers_of_one_name_do_not_disturb():
    assert {Path(d.origin).stem for d in import_folder(module_folders([FOLDER])[0]).definitions["DropPath"]} > {
        "conv",
        "nets",
    }
    assert build_module("Gate", modules=[FOLDER]).arguments == "dim=64"


def test_two_registrations_of_a_name_are_an_error_that_names_both_files(tmp_path):
    header = "from ultralytics.nn import plans\nfrom ultralytics.nn.registry import register\n"
    for file in ("one", "two"):
        text = GATE.format(name="Registered", k=1).replace("class", "@register(plans.channel_preserving)\nclass")
        (tmp_path / f"{file}.py").write_text(header + text)
    with pytest.raises(ModelConfigError, match=r"'Registered' is defined twice: .*one\.py and .*two\.py"):
        build_module("Registered", modules=[tmp_path])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:", "SyntaxError: .* \\(line 1\\)"),
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero \\(line 2\\)"),
        ("import sys; sys.exit(3)", "SystemExit: 3 \\(line 1\\)"),
        ("from ultralytics.nn.nowhere import X", "this package has no ultralytics.nn.nowhere"),
        ("from .conv import X", "there is no conv.py beside it"),
    ],
)
def test_reasons(tmp_path, text, reason):
    (tmp_path / "bad.py").write_text(text)
    (tmp_path / "good.py").write_text(GATE.format(name="Good", k=1))
    assert build_module("Good", modules=[tmp_path]).np == 64 * 64 + 64
    (got,) = import_folder(tmp_path.resolve()).failures.values()
    assert re.fullmatch(reason, got)


def test_folders_of_one_name_get_packages_of_their_own(tmp_path):
    for i in (0, 1):
        folder = tmp_path / str(i) / "extra"
        folder.mkdir(parents=True)
        (folder / "Net.py").write_text(GATE.format(name=f"Net{i}", k=1))
    names = [import_folder((tmp_path / str(i) / "extra").resolve()).package.__name__ for i in (0, 1)]
    assert names[0] == "ultralytics.nn.extra" and names[1].startswith("ultralytics.nn.extra_")
    assert all(name in sys.modules for name in names)


def test_an_example_of_the_package_gives_way_to_a_file_of_the_users(tmp_path):
    assert resolve_module("EMA").plan is not None
    (tmp_path / "attention.py").write_text(GATE.format(name="EMA", k=1))
    assert resolve_module("EMA", folders=module_folders([tmp_path])).origin == str(tmp_path / "attention.py")
    assert resolve_module("MultiScaleAttention.EMA").plan is resolve_module("EMA").plan


def test_folders_of_two_models_may_register_the_same_name(tmp_path):
    header = "from ultralytics.nn import plans\nfrom ultralytics.nn.registry import register\n"
    for folder in ("first", "second"):
        text = GATE.format(name="OfAModel", k=1)
        (tmp_path / folder).mkdir()
        text = text.replace("class", "@register(plans.channel_preserving)\nclass")
        (tmp_path / folder / "OfAModel.py").write_text(header + text)
        assert str(tmp_path / folder) in resolve_module("OfAModel", folders=module_folders([tmp_path / folder])).origin
