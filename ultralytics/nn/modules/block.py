"""Blocks of RT-DETR models: HGNetV2, ResNet, ResNet-vd, the fusion block RepC3; and DFL and Proto of YOLO heads.

All blocks are importable from here, their path in the published package.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import activation
from ultralytics.nn.modules.attention import *  # noqa: F403
from ultralytics.nn.modules.conv import Conv, ConvNormLayer, LightConv, RepConv, chained
from ultralytics.nn.modules.csp import *  # noqa: F403
from ultralytics.nn.modules.elan import *  # noqa: F403
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError


def _stem(ctx: RowContext, cm: int, c2: int) -> LayerSpec:
    ctx.require_once()
    return LayerSpec((ctx.c1, cm, c2), c2)


def _hg_block(ctx: RowContext, cm: int, c2: int, k: int = 3, *args: Any) -> LayerSpec:
    return LayerSpec((ctx.c1, cm, c2, k, ctx.repeats, *args), c2)


def _resnet_layer(
    ctx: RowContext, c1: int, c2: int, s: int = 1, is_first: bool = False, n: int = 1, e: int = 4
) -> LayerSpec:
    ctx.require_once()
    return LayerSpec((c1, c2, s, is_first, n, e), c2 if is_first else e * c2)


def _bottleneck_vd(ctx: RowContext, c2: int, *args: Any) -> LayerSpec:
    return LayerSpec((ctx.c1, c2, *args), BottleNeck.expansion * c2)


def _resnet_vd_stage(
    ctx: RowContext, c2: int, block: str, n: int, stage: int, act: Any = "relu", *further: Any
) -> LayerSpec:
    if ctx.repeats != 1 or type(n) is not int or type(stage) is not int or stage not in range(2, 6):
        raise ModelConfigError(
            f"its row is [from, 1, Blocks, [channels, block, number of blocks, stage 2 to 5]], got {ctx.repeats} in "
            f"the second column, {n!r} blocks and stage {stage!r}"
        )
    kind = ctx.find(block).build if isinstance(block, str) else block
    return LayerSpec((ctx.c1, c2, kind, n, stage, act, *further), c2 * kind.expansion)


@register(_stem)
class HGStem(nn.Module):
    """Stem of HGNetV2, stride 4: a pooled and a convolved branch, concatenated."""

    def __init__(self, c1, cm, c2):
        super().__init__()
        conv = partial(Conv, act=nn.ReLU())
        self.stem1 = conv(c1, cm, 3, 2)
        self.stem2a, self.stem2b = conv(cm, cm // 2, 2, 1, 0), conv(cm // 2, cm, 2, 1, 0)
        self.stem3, self.stem4 = conv(2 * cm, cm, 3, 2), conv(cm, c2)
        self.pool = nn.MaxPool2d(2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        right_bottom = (0, 1, 0, 1)  # pad for 2x2 kernels at stride 1
        halved = F.pad(self.stem1(x), right_bottom)  # (B, c1, H, W) -> (B, cm, H/2 + 1, W/2 + 1)
        convolved = self.stem2b(F.pad(self.stem2a(halved), right_bottom))  # (B, cm, H/2, W/2)
        y = torch.cat((self.pool(halved), convolved), 1)  # (B, 2 cm, H/2, W/2)
        return self.stem4(self.stem3(y))  # (B, c2, H/4, W/4)


@register(_hg_block)
class HGBlock(nn.Module):
    """Block of HGNetV2: `n` sequential convolutions whose outputs are concatenated, squeezed and expanded.

    `shortcut` adds the input if c1 == c2.
    """

    def __init__(self, c1, cm, c2, k=3, n=6, lightconv=False, shortcut=False, act=nn.ReLU()):  # noqa: B008
        super().__init__()
        unit = LightConv if lightconv else Conv
        self.m = nn.ModuleList(unit(cm if i else c1, cm, k=k, act=act) for i in range(n))
        self.sc = Conv(c1 + n * cm, c2 // 2, 1, 1, act=act)
        self.ec = Conv(c2 // 2, c2, 1, 1, act=act)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        outputs = chained([x], self.m)  # (B, c1, H, W) and n x (B, cm, H, W)
        aggregated = self.ec(self.sc(torch.cat(outputs, 1)))  # (B, c1 + n cm, H, W) -> (B, c2, H, W)
        return x + aggregated if self.add else aggregated


@register(plans.csp)
class RepC3(nn.Module):
    """Fusion block of the hybrid encoder (RT-DETR, https://arxiv.org/abs/2304.08069, Figure 5).

    Sum of two branches of e * c2 channels: `n` RepConv (or `inner(channels)`), and a pointwise convolution.
    """

    def __init__(self, c1, c2, n=3, e=1.0, *, inner: Callable[[int], nn.Module] | None = None):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.m = nn.Sequential(*(inner(hidden) if inner else RepConv(hidden, hidden) for _ in range(n)))
        self.cv3 = nn.Identity() if hidden == c2 else Conv(hidden, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.m(self.cv1(x)) + self.cv2(x))  # (B, c1, H, W) -> (B, hidden, H, W) -> (B, c2, H, W)


class ResNetBlock(nn.Module):
    """Bottleneck of ResNet, https://arxiv.org/abs/1512.03385, with the stride in the 3x3 convolution.

    As in the published package, inner activations are those of `Conv`, and the sum is followed by ReLU.
    """

    def __init__(self, c1, c2, s=1, e=4):
        super().__init__()
        self.cv1 = Conv(c1, c2, k=1, s=1, act=True)
        self.cv2 = Conv(c2, c2, k=3, s=s, p=1, act=True)
        self.cv3 = Conv(c2, e * c2, k=1, act=False)
        projected = s != 1 or c1 != e * c2
        self.shortcut = nn.Sequential(Conv(c1, e * c2, k=1, s=s, act=False)) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv3(self.cv2(self.cv1(x)))  # (B, c1, H, W) -> (B, e c2, H / s, W / s)
        return F.relu(y + self.shortcut(x))


@register(_resnet_layer)
class ResNetLayer(nn.Module):
    """Stage of ResNet: the stem (7x7 convolution and pooling, stride 4) if `is_first`, else `n` bottlenecks."""

    def __init__(self, c1, c2, s=1, is_first=False, n=1, e=4):
        super().__init__()
        if is_first:
            parts = [Conv(c1, c2, k=7, s=2, p=3, act=True), nn.MaxPool2d(kernel_size=3, stride=2, padding=1)]
        else:
            parts = [ResNetBlock(e * c2 if i else c1, c2, 1 if i else s, e=e) for i in range(n)]
        self.layer = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@register(plans.conv)
class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, of ResNet-vd (https://arxiv.org/abs/1812.01187).

    Without `shortcut` the input is projected by a pointwise convolution, in variant `d` after average pooling at stride
    2. Names of arguments and attributes are those of the official RT-DETR, since published blocks inherit from it.
    """

    expansion = 1

    def __init__(self, ch_in, ch_out, stride=1, shortcut=True, act="relu", variant="d"):
        super().__init__()
        self.branch2a = ConvNormLayer(ch_in, ch_out, 3, stride, act=act)
        self.branch2b = ConvNormLayer(ch_out, ch_out, 3, 1)
        self.shortcut, self.short = shortcut, _vd_shortcut("BasicBlock", ch_in, ch_out, stride, shortcut, variant)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch2b(self.branch2a(x))  # (B, ch_in, H, W) -> (B, ch_out, H / stride, W / stride)
        return self.act(y + self.short(x))


@register(_bottleneck_vd, overridable=True)
class BottleNeck(nn.Module):
    """Bottleneck of ResNet-vd 50 and 101: 1x1, 3x3 (with the stride) and 1x1 convolution to 4 * ch_out channels.

    `[ch_out, stride, shortcut, act]`, or in a row of `Blocks`: `[ch_out, BottleNeck, blocks, stage]`. Source:
    https://arxiv.org/abs/1812.01187 (ResNet-D). In variant `a` the first convolution has the stride.
    """

    expansion = 4

    def __init__(self, ch_in, ch_out, stride=1, shortcut=True, act="relu", variant="d"):
        super().__init__()
        wide, first, second = self.expansion * ch_out, *((stride, 1) if variant == "a" else (1, stride))
        self.branch2a = ConvNormLayer(ch_in, ch_out, 1, first, act=act)
        self.branch2b = ConvNormLayer(ch_out, ch_out, 3, second, act=act)
        self.branch2c = ConvNormLayer(ch_out, wide, 1, 1)
        self.shortcut, self.short = shortcut, _vd_shortcut("BottleNeck", ch_in, wide, stride, shortcut, variant)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch2c(self.branch2b(self.branch2a(x)))  # (B, ch_in, H, W) -> (B, 4 ch_out, H / stride, W / stride)
        return self.act(y + self.short(x))


def _vd_shortcut(name: str, c1: int, c2: int, stride: int, shortcut: bool, variant: str) -> nn.Module:
    """Build the shortcut of ResNet-vd: identity, or a 1x1 convolution after 2x2 average pooling at stride 2."""
    if stride not in (1, 2) or (shortcut and (stride, c1) != (1, c2)):
        raise ModelConfigError(
            f"{name}: stride must be 1 or 2, and shortcut False where stride is 2 or {c1} channels in are not {c2} "
            f"out; got stride={stride}, shortcut={shortcut}"
        )
    if shortcut:
        return nn.Identity()
    if stride == 2 and variant == "d":
        return nn.Sequential(nn.AvgPool2d(2, 2, 0, ceil_mode=True), ConvNormLayer(c1, c2, 1, 1))
    return ConvNormLayer(c1, c2, 1, stride)


@register(_resnet_vd_stage)
class Blocks(nn.Module):
    """Stage 2 to 5 of ResNet-vd: `n` blocks; the first is projected and, from stage 3, has stride 2.

    Blocks of other code bases are called `(channels in, out, stride=, shortcut=, act=, variant=)`, where their
    constructor has these names. Further arguments are the size of the map and the reduction of an attention, then a
    kernel size, the name of a KAN layer, or the variant.
    """

    def __init__(self, c1, c2, block, n, stage, act="relu", input_resolution=None, sr_ratio=None, *further):
        super().__init__()
        options = {"act": act, "variant": "d", "input_resolution": input_resolution, "sr_ratio": sr_ratio}
        for value in further:
            kind = "kernel_size" if not isinstance(value, str) else "variant" if len(value) == 1 else "kan_name"
            options[kind] = value
        known = inspect.signature(block).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        self.blocks = nn.ModuleList()
        for i in range(n):
            stride = 2 if i == 0 and stage != 2 else 1
            given = options | {"stride": stride, "shortcut": i > 0}
            given = {key: value for key, value in given.items() if value is not None and (takes_any or key in known)}
            self.blocks.append(block(c1, c2, *([] if "stride" in given else [stride]), **given))
            c1 = c2 * block.expansion

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)  # (B, c1, H, W) -> (B, expansion c2, H / s, W / s)
        return x


def get_activation(act: Any, inpace: bool = True) -> nn.Module:
    """Build an activation by its name, as forks import it; `inpace` has no effect on the result."""
    return activation(act)


class DFL(nn.Module):
    """Expected value of a distribution over 0..c1-1 for each side of a box (arXiv:2006.04388)."""

    def __init__(self, c1=16):
        super().__init__()
        self.conv = nn.Conv2d(c1, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(c1, dtype=torch.float).view(1, c1, 1, 1)
        self.c1 = c1

    def forward(self, x: Tensor) -> Tensor:
        distribution = x.view(x.shape[0], 4, self.c1, -1).transpose(1, 2).softmax(1)  # (B, 4 c1, A) -> (B, c1, 4, A)
        return self.conv(distribution).flatten(1, 2)  # -> (B, 4, A)


class Proto(nn.Module):
    """Mask prototypes at twice the size (YOLACT, arXiv:1904.02689)."""

    def __init__(self, c1, c_=256, c2=32):
        super().__init__()
        self.cv1 = Conv(c1, c_, k=3)
        self.upsample = nn.ConvTranspose2d(c_, c_, 2, 2, 0, bias=True)
        self.cv2, self.cv3 = Conv(c_, c_, k=3), Conv(c_, c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.cv2(self.upsample(self.cv1(x))))  # (B, c1, H, W) -> (B, c2, 2 H, 2 W)
