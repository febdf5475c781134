"""The contract: every module of the package keeps it, and each way to break it is found by its check, with the line."""

import importlib.util
import random

import numpy as np
import pytest
import torch

from tests.nn import broken_modules
from ultralytics.nn.module_check import CHECKS, check_module, command
from ultralytics.nn.module_check.global_state import hooks, switches
from ultralytics.testing import registered_modules
from ultralytics.utils.errors import UserError

pytest_plugins = ["pytester"]

EXPORTS = ("torchscript", "onnx")  # seconds rather than a fraction of one
LARGE = {f"EfficientViT_M{i}" for i in range(1, 6)}
NAMES = [n for n in registered_modules() if not n.startswith("Contract")]
CASES = [(check, name) for check, modules in broken_modules.BROKEN.items() for name in modules]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("broken")
    broken_modules.write(path)
    return path


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in NAMES])
def test_every_module_of_the_package_keeps_the_contract(name):
    report = check_module(name, skip=EXPORTS)
    assert not report.broken, report.table()
    assert report["builds"].status == report["batches"].status == report["weights"].status == "kept"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_module_of_the_package_exports(name):
    report = check_module(name)
    assert not report.broken, report.table()
    assert report["torchscript"].status == "kept"


@pytest.mark.parametrize(("check", "name"), CASES, ids=[name for _, name in CASES])
def test_a_broken_module_fails_its_check_alone(check, name, folder):
    skip = () if check in EXPORTS else EXPORTS
    report = check_module(name, modules=[folder], skip=(*skip, "onnx"))
    assert [result.check for result in report.broken] == [check], report.table()
    assert report[check].place.endswith(f"{name}.py:{broken_modules.fault_line(check, name)}"), report.table()
    with pytest.raises(UserError) as error:
        report.raise_if_broken()
    assert str(error.value) == report.summary()


def test_checking_a_module_leaves_the_process_alone(folder):
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = switches(), hooks(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    names = (
        "DefaultDtype", "MatmulWhenImported", "GlobalHook", "SeedsItsWeights", "GradientsOff", "SetsEnvironment",
        "DetectsAnomalies", "SetsWhatIsSet",
    )  # fmt: skip
    for name in names:
        assert check_module(name, modules=[folder], skip=EXPORTS).broken
    after = switches(), hooks(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    assert after == before


@pytest.mark.parametrize(("check", "name"), [("globals", "MatmulWhenImported"), ("printing", "PrintsWhenImported")])
def test_what_the_first_import_does_is_found(check, name, tmp_path):
    (tmp_path / f"{name}.py").write_text(broken_modules.HEADER + broken_modules.BROKEN[check][name], encoding="utf-8")
    report = check_module(name, modules=[tmp_path], skip=EXPORTS)
    assert [result.check for result in report.broken] == [check], report.table()


KEPT = {
    "DefinesAnOperator": (
        "return x * 2",
        'torch.library.Library("contract_test", "DEF").define("f(Tensor x) -> Tensor")',
    ),
    "DrawsInTraining": ("return x + torch.rand_like(x) if self.training else x * 2", ""),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_looks_wrong_but_is_not_is_kept(name, tmp_path):
    forward, before = KEPT[name]
    text = f"""
{before}
@register(plans.channel_preserving)
class {name}(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        {forward}
"""
    (tmp_path / f"{name}.py").write_text(broken_modules.HEADER + text, encoding="utf-8")
    report = check_module(name, modules=[tmp_path], skip=("onnx",))
    assert not report.broken, report.table()


def test_a_forward_that_writes_into_its_input_is_not_blamed_on_the_export(folder):
    report = check_module("WritesIntoInput", modules=[folder])
    assert [result.check for result in report.broken] == ["inputs"], report.table()


def test_an_operator_that_onnx_lacks_is_one_line(tmp_path, capfd):
    pytest.importorskip("onnxruntime")
    text = broken_modules.BROKEN["inputs"]["WritesIntoInput"].replace("WritesIntoInput", "Fourier")
    text = text.replace("x += 1", "x = torch.fft.rfft2(x).real")
    (tmp_path / "Fourier.py").write_text(broken_modules.HEADER + text, encoding="utf-8")
    report = check_module(
        "Fourier", modules=[tmp_path], skip=[c.name for c in CHECKS if c.name not in ("builds", "onnx")]
    )
    assert "fft" in report["onnx"].reason and report["onnx"].place.endswith(":13")  # the class
    assert capfd.readouterr().out == ""


def test_small_maps_do_not_hide_the_ratio_of_the_sides():
    assert check_module("Conv", args=[64, 3, 2], size=3, skip=EXPORTS)["sizes"].status == "kept"


def test_inputs_are_found_out():
    assert "image 3x64x64" in check_module("EfficientViT_M0", skip=[c.name for c in CHECKS[1:]]).setup
    skip = [check.name for check in CHECKS if check.name not in ("builds", "stated")]
    report = check_module("Concat", skip=skip)
    assert "input 64x32x32, 64x32x32" in report.setup and report["stated"].reason == "128 channels"
    report = check_module("Conv", skip=skip)
    assert "args [64]" in report.setup
    report = check_module("Concat", inputs=[(8, 16, 16), (4, 16, 16), (4, 16, 16)], skip=skip)
    assert report["builds"].reason == "0 parameters, output 16x16x16"


def test_checks_that_need_a_failed_one_are_not_asked(folder):
    report = check_module("NoSuchLayer", modules=[folder])
    assert report["sizes"].status == "skipped" and "'builds' failed" in report["sizes"].reason
    assert report["printing"].status == "kept"


def test_a_missing_package_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "onnxruntime" else found(n, *a))
    result = check_module("Concat", skip=("torchscript",))["onnx"]
    assert result.status == "skipped" and "pip install onnxruntime" in result.reason


def test_command_prints_the_table_and_fails_where_a_check_does(folder, capsys):
    command("Conv", args="[16, 3, 2]", channels=8, size=16)
    shown = capsys.readouterr().out
    assert shown.startswith("Conv (") and "args [16, 3, 2], input 8x16x16" in shown and "16x8x8" in shown
    with pytest.raises(UserError, match=r"PrintsInForward: 1 of 17 checks failed: printing: .*PrintsInForward\.py:\d+"):
        command("PrintsInForward", modules=str(folder))
    assert "printing" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["64", "{a: 1}", "[64", "nothing"])
def test_args_are_a_list(text):
    with pytest.raises(UserError, match="args"):
        command("Conv", args=text)


def test_unknown_names_are_answered():
    with pytest.raises(UserError, match="no check 'size'; did you mean 'sizes'"):
        check_module("Conv", skip=("size",))
    with pytest.raises(UserError, match="no module 'Convv'; did you mean 'Conv'"):
        check_module("Convv")
    with pytest.raises(UserError, match="one multiple"):
        check_module("Concat", inputs=[(8, 16, 16), (8, 24, 24)])


def test_a_report_without_a_check_says_so():
    report = check_module("Concat", skip=[c.name for c in CHECKS])
    assert report.table().startswith("Concat (") and not report.broken
    with pytest.raises(KeyError, match="onnx"):
        report["onnx"]


def test_table_in_an_encoding_without_the_marks():
    table = check_module("Concat", skip=[c.name for c in CHECKS[2:]]).table("ascii")
    assert table.splitlines()[1].startswith("ok builds")


def test_modules_that_cannot_be_tested_are_told(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        registered_modules(tmp_path / "missing")
    (tmp_path / "helper.py").write_text("import no_such_package", encoding="utf-8")
    assert registered_modules(tmp_path) == []
    other = tmp_path / "other"
    other.mkdir()
    (other / "Net.py").write_text("import no_such_package\n@register(plan)\nclass Net: ...", encoding="utf-8")
    with pytest.raises(UserError, match=r"Net\.py: not imported, .*no_such_package"):
        registered_modules(other)


def test_plugin(pytester, folder):
    pytester.makeconftest('pytest_plugins = ["ultralytics.testing"]')
    pytester.makepyfile(f"""
        import pytest
        from ultralytics.testing import registered_modules

        FOLDER = {str(folder)!r}

        def test_names():
            assert {{"FixedSize", "GlobalHook"}} <= set(registered_modules(FOLDER))

        @pytest.mark.parametrize("name", ["WritesIntoInput"])
        def test_contract(name, module_contract):
            module_contract(name, modules=[FOLDER], skip=("torchscript", "onnx"))
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*its forward writes into its input*WritesIntoInput.py:*"])
