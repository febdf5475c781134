"""`yolo check`: modules of the package pass all checks, and each kind of broken module fails its check alone."""

import importlib.util
from pathlib import Path

import pytest
import torch

from ultralytics.nn.module_check import CHECKS, check_module
from ultralytics.nn.module_check.run_checks import command
from ultralytics.nn.registry import ADDMODULES, REGISTRY, import_folder
from ultralytics.utils.errors import UserError

FOUND = {entry.name: entry for entry in (*import_folder(ADDMODULES).registered.values(), *REGISTRY.values())}
NAMES = sorted(name for name, entry in FOUND.items() if Path(entry.origin).parent == ADDMODULES)
PLANS = {"WrongChannels": "plans.conv", "WrongStride": "plans.backbone(8, 16)"}
MODULE = """
import torch
from torch import nn
from ultralytics.nn import plans
from ultralytics.nn.registry import register

@register({plan})
class {name}(nn.Module):
    def __init__(self, c=3, *args):
        super().__init__()
        {init}

    def forward(self, x):
        {forward}
"""

# check that fails -> module -> statements of __init__, statements of forward, and what the reason has
BROKEN = {
    "builds": {
        "WrongChannels": ("self.conv = nn.Conv2d(c, args[0] + 8, 1)", "return self.conv(x)", "plan states outputs"),
        "NoSuchLayer": ("self.conv = nn.Conv9d(c, c, 1)", "return self.conv(x)", "no attribute 'Conv9d'"),
    },
    "shapes": {
        "WrongStride": (
            "self.a, self.b = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 16, 6, 6)",
            "y = self.a(x); return [y, self.b(y)]",
            "expected a stride of",
        ),
    },
    "sizes": {
        "FixedSize": ("self.p = nn.Parameter(torch.randn(c, 32, 32))", "return x + self.p", "with 64x31x33: "),
        "Crops": ("", "return x[..., :16, :16] * 2", "with 64x7x20 it returns 64x7x16, expected 64x4x10"),
    },
    "inference": {
        "DropsInEval": ("", "return nn.functional.dropout(x)", "is dropout active"),
        "MixesImages": ("", "return x - x.mean((0, 2, 3), keepdim=True)", "with the other image"),
        "WritesIntoInput": ("", "x += 1; return x * 2", "overwrites its input 0"),
    },
    "backward": {
        "UnusedParameter": ("self.a, self.b = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 3)", "return self.a(x)", "b.weight"),
        "Detaches": ("self.p = nn.Parameter(torch.ones(1))", "return x.detach() * self.p", "no gradient reaches its"),
        "PooledNorm": (
            "self.n = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(c))",
            "return x * self.n(x)[..., None, None].sigmoid()",
            "training mode, batch 1: ValueError: Expected more than 1 value",
        ),
    },
    "precision": {
        "Casts": ("", "return x * torch.eye(x.shape[-1])[None, None].mean()  + torch.ones(1)", "float16: its output"),
        "Mask": ("", "return x * torch.ones(1, dtype=x.dtype) @ torch.eye(x.shape[-1])", "float16: RuntimeError"),
    },
    "copies": {"KeepsItsMap": ("", "self.y = x * 2; return self.y", "deepcopy")},
    "weights": {
        "HiddenWeight": ("self.w = torch.rand(1)", "return x * self.w.to(x.dtype)", "parameters or buffers"),
        "CachesWeight": (
            "self.p, self.cached = nn.Parameter(torch.rand(1)), None",
            "self.cached = (self.p * 2).detach() if self.cached is None else self.cached\n"
            "        return x * (self.p * 2 if self.training else self.cached.to(x.dtype))",
            "do not cache",
        ),
    },
    "fold": {
        "ForgetsEps": (
            "self.bn = nn.BatchNorm2d(c)\n\n    def fold(self):\n"
            "        self.bn.running_var += self.bn.eps",
            "return self.bn(x)",
            "fold() changes the output",
        ),
    },
    "onnx": {"ExportsAnother": ("", "return x * (2 if torch.jit.is_tracing() else 3)", "branch on values")},
}  # fmt: skip
CASES = [(check, name, reason) for check, modules in BROKEN.items() for name, (*_, reason) in modules.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Write each broken module to a file of a folder."""
    path = tmp_path_factory.mktemp("broken")
    for modules in BROKEN.values():
        for name, (init, forward, _) in modules.items():
            plan = PLANS.get(name, "plans.channel_preserving")
            (path / f"{name}.py").write_text(MODULE.format(plan=plan, name=name, init=init, forward=forward))
    return path


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n[-2:] in ("M1", "M2", "M3", "M4", "M5") else n for n in NAMES]
)
def test_modules_of_the_package_pass(name):
    report = check_module(name, skip=["onnx"])
    assert not report.failed, report.table()
    assert {report[check].status for check in CHECKS if check not in ("fold", "onnx")} == {"passed"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_modules_of_the_package_export(name):
    report = check_module(name, skip=[check for check in CHECKS if check != "onnx"])
    assert report["onnx"].status == "passed", report.table()


@pytest.mark.parametrize(("check", "name", "reason"), CASES, ids=[name for _, name, _ in CASES])
def test_a_broken_module_fails_one_check(check, name, reason, folder):
    state = torch.get_rng_state()
    report = check_module(name, modules=[folder], skip=[] if check == "onnx" else ["onnx"])
    assert torch.equal(torch.get_rng_state(), state)
    assert [result.check for result in report.failed] == [check], report.table()
    assert reason in report[check].reason and f"{name}.py" in report[check].reason


def test_an_error_in_forward_names_its_line(folder):
    reason = check_module("FixedSize", modules=[folder], skip=["onnx"])["sizes"].reason
    line = int(reason.rpartition(":")[2].rstrip(")"))
    assert (folder / "FixedSize.py").read_text().splitlines()[line - 1].strip() == "return x + self.p"


def test_inputs_are_inferred():
    for name, inputs in {"EfficientViT_M0": "image 3x64x64", "Concat": "64x32x32, 64x32x32", "Conv": "[64]"}.items():
        report = check_module(name, skip=[check for check in CHECKS if check != "shapes"])
        assert inputs in report.setup and report["shapes"].status == "passed"


def test_small_maps_keep_the_ratio_of_the_sides():
    report = check_module("Conv", args=[64, 3, 2], size=3, skip=[c for c in CHECKS if c not in ("builds", "sizes")])
    assert report["sizes"].status == "passed"


def test_checks_that_need_a_failed_one_are_skipped(folder):
    report = check_module("NoSuchLayer", modules=[folder])
    assert (report["sizes"].status, report["sizes"].reason) == ("skipped", "needs builds, which failed")
    assert check_module("DropsInEval", modules=[folder])["onnx"].reason == "needs inference, which failed"


def test_a_missing_package_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "onnxruntime" else found(n, *a))
    result = check_module("Concat")["onnx"]
    assert result.status == "skipped" and "pip install onnxruntime" in result.reason


def test_command_prints_the_table_and_fails(folder, capsys):
    command("Conv", args="[16, 3, 2]", channels=8, size=16)
    shown = capsys.readouterr().out
    assert shown.startswith("Conv (") and "args [16, 3, 2], input 8x16x16" in shown and "16x8x8" in shown
    with pytest.raises(UserError, match="1 of 10 checks failed: inference"):
        command("WritesIntoInput", modules=str(folder))
    assert "FAILED  inference" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["64", "{a: 1}", "[64", "nothing"])
def test_args_must_be_a_list(text):
    with pytest.raises(UserError, match="args"):
        command("Conv", args=text)


def test_unknown_names_are_errors():
    with pytest.raises(UserError, match="no check 'size'; did you mean 'sizes'"):
        check_module("Conv", skip=("size",))
    with pytest.raises(UserError, match="no module 'Convv'; did you mean 'Conv'"):
        check_module("Convv")
