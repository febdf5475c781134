"""Names that module files import and that do not exist here: at import time, when used, and in a fork's folders."""

import copy
import pickle
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from ultralytics.nn.forks.placeholders import Placeholder, importing
from ultralytics.nn.modules.utils import multi_scale_deformable_attn_pytorch
from ultralytics.nn.parser import build_module
from ultralytics.nn.registry import import_folder, missing_names
from ultralytics.utils.errors import MissingPackageError, ModelConfigError

GATE = """
class Gate(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 1)
    def forward(self, x):
        return self.conv(x)
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/') if not name.startswith('__') else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import torch\nimport torch.nn as nn\n" + textwrap.dedent(text))
    return folder


TOP_LEVEL = [  # what files do on their top level with a name that they lack
    "from mmcv.cnn import build_norm_layer\nNORM = build_norm_layer(dict(type='BN'), 64)[1]",
    "from mmcv.ops import DeformConv\nclass Mine(DeformConv):\n    scale = DeformConv.default_scale",
    "from mmcv.ops import DeformConv\nclass Mine(nn.Module, DeformConv):\n    pass",
    "from mmcv.ops import DeformConv\nclass Mine(DeformConv, nn.Module):\n    pass",
    "from mmengine.registry import MODELS\n@MODELS.register_module()\nclass Mine(nn.Module):\n    pass",
    "from mmengine.registry import MODELS\n@MODELS.register_module\ndef mine():\n    pass",
    "from nobodys import Norm\ndef net(norm=Norm, eps=Norm.eps):\n    pass",
    "from nobodys import Norm\ndef net(norm: Norm | None = None, all: list[Norm] = ()) -> Norm[int]:\n    pass",
    "from nobodys import VERSION\nif VERSION >= (1, 9):\n    MODERN = True\nassert MODERN and not VERSION < 2",
    "from ultralytics.utils.torch_utils import TORCH_7_7, initialize_weights\nFLAG = 1 if TORCH_7_7 else 2",
    "from ultralytics.nn.modules.conv import Conv, NobodysConv\nKINDS = {Conv: 1, NobodysConv: 2}",
    "import nobodys.ops.scan as scan\nrun = scan.forward",
    "import nobodys.ops\nrun = nobodys.ops.forward",
    "from nobodys.ops import *",
    "from .beside import Lost",
    "from .missing_folder.modules import Lost",
    "from ..missing_folder.net import Lost",
    "from ultralytics.nn.missing_folder.net import Lost\nkinds = [k for k in Lost]",
    "from timm.models.layers import DropPath, a_layer_that_timm_lacks",
    "try:\n    import nobodys\nexcept ImportError:\n    raise ImportError('install nobodys')",
    "from nobodys import A\nassert not isinstance(3, A) and not issubclass(int, A)",
    "import nobodys\n@nobodys.jit\ndef kernel(x, n: nobodys.constexpr):\n    return x",
    "from ultralytics.nn.modules.block import *\nclass Mine(NobodysBlock):\n    pass",
    "import mmcv\nassert not [int(part) for part in mmcv.__version__.split('.')]",
    "from mmcv.ops import Drop\nDrop.__repr__ = lambda self: 'drop'\nKINDS = (int, Drop)\nassert isinstance(3, KINDS)",
    "from typing import Optional, Union\nfrom nobodys import A\ndef f(x: Optional[A], y: Union[A, int] = None): pass",
    "from ultralytics.yolo.utils.torch_utils import fuse_conv_and_bn",
]


@pytest.mark.parametrize("text", TOP_LEVEL)
def test_a_file_with_missing_names_lives(tmp_path, text):
    write(tmp_path, net=text + GATE, beside="1 / 0")
    assert build_module("Gate", modules=[tmp_path]).outputs == [(64, 32, 32)]
    assert not [file for file in import_folder(tmp_path.resolve()).failures if file.stem == "net"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "from einops import rearrange\n" + GATE.replace("self.conv(x)", "rearrange(x, 'b c h w -> b h w c')"),
            r"net\.py, line 3: 'rearrange': it needs the package 'einops' \(pip install einops\)",
        ),
        ("import DCNv3\n" + GATE.replace("nn.Conv2d", "DCNv3.DCNv3"), r"needs the compiled operator 'DCNv3'; build it"),
        ("from pywt import wave\n" + GATE.replace("nn.Conv2d", "wave"), r"'wave': it needs .*pip install PyWavelets"),
        (
            "from ultralytics.nn.modules.conv import Own\n" + GATE.replace("nn.Module", "Own"),
            r"Gate inherits from a missing name: net\.py, line 3: 'Own': ultralytics\.nn\.modules\.conv has no such",
        ),
        (
            "from ..near import Own\n" + GATE.replace("nn.Module", "Own"),
            r"there is no ultralytics\.nn\.near here, nor in the fork of the file; the fork that has it: modules=",
        ),
        (
            "from timm.layers import Own\n" + GATE.replace("nn.Conv2d", "Own.conv"),
            r"'Own': the installed timm has no such name in timm\.layers",
        ),
        (
            "from ultralytics.nn.modules.block import *\n" + GATE.replace("nn.Conv2d", "Own"),
            r"net\.py: 'Own' is defined nowhere; line 3 imports all names of ultralytics\.nn\.modules\.block",
        ),
        (
            GATE.replace("return self", "import einops\n        return self"),
            r"net\.py, line 9: it needs the package 'einops'",
        ),
    ],
)
def test_what_uses_a_missing_name_fails_with_the_remedy(tmp_path, text, message):
    with pytest.raises(ModelConfigError, match=message):
        build_module("Gate", modules=[write(tmp_path, net=text)])


FAILING = """
assert torch.cuda.device_count() > 99, "99 GPUs"
torch.ops.load_library("lost.so")
with open("lost.txt") as file:
    ANCHORS = [float(line) for line in file]
SCAN = torch.ops.lost.scan
LAZY = torch.zeros(2).view(5)
if not ANCHORS:
    raise SystemExit("no anchors")
class Base(nn.Module):
    half = 1 / 0
class Derived(Base):
    pass
class Anchors(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.anchors = torch.tensor(ANCHORS)
class Scan(nn.Module):
    def forward(self, x):
        return SCAN(x)
class Late(nn.Module):
    def forward(self, x):
        return torch.mul(x, LAZY)
"""


@pytest.mark.parametrize("start", ["", "\ufefffrom __future__ import annotations\n"])
def test_only_what_needs_a_failed_statement_fails(tmp_path, start):
    gate = GATE.replace("dim)", "dim: Undefined)", bool(start))
    (tmp_path / "net.py").write_text(f"{start}import torch\nfrom torch import nn{FAILING}{gate}", encoding="utf-8")
    assert build_module("Gate", modules=[tmp_path]).outputs == [(64, 32, 32)]
    folder, first = import_folder(tmp_path.resolve()), 3 + bool(start)
    assert not folder.failures
    reasons = [*folder.package.missing_reasons.values()]
    assert reasons[0] == f"net.py, line {first}: 'assert torch.cuda.device_count() > ...': AssertionError: 99 GPUs"
    for module, message in {
        "Base": rf"no module 'Base'; net\.py, line {first + 8}: 'Base': ZeroDivisionError",
        "Derived": rf"Derived inherits from a missing name: net\.py, line {first + 8}: 'Base'",
        "Anchors": rf"net\.py, line {first + 2}: 'ANCHORS': FileNotFoundError",
        "Late": rf"net\.py, line {first + 5}: 'LAZY': RuntimeError",
    }.items():
        with pytest.raises(ModelConfigError, match=message):
            build_module(module, modules=[tmp_path])
    assert "has no attribute 'scan'" in build_module("Scan", modules=[tmp_path]).assumed


def test_the_fallback_of_a_file_is_used(tmp_path):
    text = """
    try:
        from nobodys import Conv
    except ImportError:
        from torch.nn import Conv2d as Conv
    try:
        from torch.nn import NobodysLayer
    except (ImportError, AttributeError):
        NobodysLayer = None
    """
    write(tmp_path, net=textwrap.dedent(text) + GATE.replace("nn.Conv2d", "Conv"))
    assert type(build_module("Gate", modules=[tmp_path]).conv) is torch.nn.Conv2d
    assert not import_folder(tmp_path.resolve()).package.missing_reasons


def test_other_modules_see_nothing_of_it(tmp_path, caplog):
    write(tmp_path, net="import nobodys\nimport einops.layers.torch" + GATE)
    layer = build_module("Gate", modules=[tmp_path])
    assert not {"nobodys", "einops"} & set(sys.modules)
    with pytest.raises(ModuleNotFoundError, match="No module named 'nobodys'"):
        __import__("nobodys")
    assert [r for r in caplog.messages if "missing here" in r and r.endswith(": nobodys, einops.layers.torch")]
    assert len([reason for reason in missing_names() if "net.py" in reason]) >= 2
    compiled = torch.compile(layer, backend="eager")  # a file's own builtins do not disturb torch's compiler
    assert torch.equal(compiled(x := torch.rand(1, 64, 4, 4)), layer(x))


def test_names_that_forks_import_most_exist(tmp_path):
    text = """
    from ultralytics.utils.tal import TORCH_1_10, dist2bbox, make_anchors
    from ultralytics.utils.torch_utils import TORCH_1_9, TORCH_2_0, TORCH_99_0, fuse_conv_and_bn, make_divisible
    from ..modules.utils import _get_clones, bias_init_with_prob, inverse_sigmoid, linear_init, linear_init_
    from ..modules.block import get_activation, ConvNormLayer, BasicBlock, BottleNeck
    assert TORCH_1_9 and TORCH_1_10 and TORCH_2_0 and not TORCH_99_0
    layers = _get_clones(nn.Linear(4, 16), 2)
    linear_init_(layers[0])
    assert 0 < layers[0].weight.abs().max() <= 0.25 and round(bias_init_with_prob(0.5), 6) == 0
    """
    folder = import_folder(write(tmp_path, net=text).resolve())
    assert not folder.failures and not folder.package.missing_reasons


def test_files_that_import_each_other_find_the_name_when_it_is_called(tmp_path):
    write(
        tmp_path,
        a="from .b import Gate\ndef part(dim):\n    return nn.Conv2d(dim, dim, 1)",
        b="from .a import part\n" + GATE.replace("nn.Conv2d(dim, dim, 1)", "part(dim)"),
    )
    assert build_module("Gate", modules=[tmp_path]).np == 64 * 65


def test_a_placeholder_can_be_copied_and_is_false():
    with importing():
        missing = Placeholder("net.py, line 1: it needs the package 'x'").part
    again = pickle.loads(pickle.dumps(copy.deepcopy(missing)))
    for use in (again, lambda: again.part, lambda: again[0], lambda: again > 1, lambda: list(again)):
        with pytest.raises(MissingPackageError, match="needs the package 'x'"):
            use()
    assert not again and not isinstance(1, again)


def test_deformable_attention_of_forks_samples_the_maps():
    locations = torch.full((2, 5, 3, 2, 4, 2), 0.5)  # (B, queries, heads, levels, points, 2): the centers
    value = torch.cat([torch.full((2, 9, 3, 8), 1.0), torch.full((2, 25, 3, 8), 3.0)], 1)
    weights = torch.full((2, 5, 3, 2, 4), 1 / 8)
    out = multi_scale_deformable_attn_pytorch(value, torch.tensor([[3, 3], [5, 5]]), locations, weights)
    assert out.shape == (2, 5, 24) and torch.allclose(out, torch.tensor(2.0))
