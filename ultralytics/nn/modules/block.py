"""Blocks made of convolutions: HGNetV2, ResNet, ResNet-vd, the CSP block of the hybrid encoder, and those of YOLO."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.conv import (
    Conv,
    ConvNormLayer,
    DWConv,
    GhostConv,
    LightConv,
    RepConv,
    autopad,
    batchnorm_affine,
    fold_batchnorm,
)
from ultralytics.nn.modules.transformer import TransformerBlock
from ultralytics.nn.registry import Context, Plan, register


def _stem(ctx: Context, cm: int, c2: int) -> Plan:
    return Plan((ctx.c1, cm, c2), c2)


def _hg_block(ctx: Context, cm: int, c2: int, k: int = 3, *args: Any) -> Plan:
    return Plan((ctx.c1, cm, c2, k, ctx.repeats, *args), c2)


def _resnet_layer(ctx: Context, c1: int, c2: int, s: int = 1, is_first: bool = False, n: int = 1, e: int = 4) -> Plan:
    return Plan((c1, c2, s, is_first, n, e), c2 if is_first else e * c2)


def _resnet_vd_stage(ctx: Context, c2: int, block: str, n: int, stage: int, act: str = "relu") -> Plan:
    if ctx.repeats != 1 or type(n) is not int or type(stage) is not int or stage not in range(2, 6):
        raise ValueError(
            f"its row is [from, 1, Blocks, [channels, block, number of blocks, stage 2 to 5]], got {ctx.repeats} in "
            f"the second column, {n!r} blocks and stage {stage!r}"
        )
    kind = ctx.find(block).build if isinstance(block, str) else block
    return Plan((ctx.c1, c2, kind, n, stage, act), c2 * kind.expansion)


@register(_stem)
class HGStem(nn.Module):
    """Stem of HGNetV2, stride 4: a pooled and a convolved branch after the first convolution, then joined."""

    def __init__(self, c1, cm, c2):
        super().__init__()
        conv = partial(Conv, act=nn.ReLU())
        self.stem1 = conv(c1, cm, 3, 2)
        self.stem2a, self.stem2b = conv(cm, cm // 2, 2, 1, 0), conv(cm // 2, cm, 2, 1, 0)
        self.stem3, self.stem4 = conv(2 * cm, cm, 3, 2), conv(cm, c2)
        self.pool = nn.MaxPool2d(2, stride=1, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        right_bottom = (0, 1, 0, 1)  # 2x2 kernels at stride 1 lose a row and a column
        halved = F.pad(self.stem1(x), right_bottom)  # (B, 3, H, W) -> (B, cm, H/2 + 1, W/2 + 1)
        convolved = self.stem2b(F.pad(self.stem2a(halved), right_bottom))
        joined = torch.cat((self.pool(halved), convolved), 1)  # (B, 2 cm, H/2, W/2)
        return self.stem4(self.stem3(joined))  # (B, c2, H/4, W/4)


@register(_hg_block)
class HGBlock(nn.Module):
    """Block of HGNetV2: `n` convolutions in a row, all their outputs squeezed and expanded together."""

    def __init__(self, c1, cm, c2, k=3, n=6, lightconv=False, shortcut=False, act=nn.ReLU()):  # noqa: B008
        super().__init__()
        unit = LightConv if lightconv else Conv
        self.m = nn.ModuleList(unit(cm if i else c1, cm, k=k, act=act) for i in range(n))
        self.sc = Conv(c1 + n * cm, c2 // 2, 1, 1, act=act)
        self.ec = Conv(c2 // 2, c2, 1, 1, act=act)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for unit in self.m:
            outputs.append(unit(outputs[-1]))
        aggregated = self.ec(self.sc(torch.cat(outputs, 1)))  # (B, c1 + n cm, H, W) -> (B, c2, H, W)
        return x + aggregated if self.add else aggregated


@register(plans.csp)
class RepC3(nn.Module):
    """Fusion block of the hybrid encoder: `n` RepConv on one branch, a pointwise convolution on the other, summed."""

    def __init__(self, c1, c2, n=3, e=1.0):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.m = nn.Sequential(*(RepConv(hidden, hidden) for _ in range(n)))
        self.cv3 = nn.Identity() if hidden == c2 else Conv(hidden, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.m(self.cv1(x)) + self.cv2(x))


class ResNetBlock(nn.Module):
    """Bottleneck of ResNet, https://arxiv.org/abs/1512.03385; the stride is in its 3x3 convolution."""

    def __init__(self, c1, c2, s=1, e=4):
        super().__init__()
        self.cv1 = Conv(c1, c2, k=1, s=1, act=True)
        self.cv2 = Conv(c2, c2, k=3, s=s, p=1, act=True)
        self.cv3 = Conv(c2, e * c2, k=1, act=False)
        projected = s != 1 or c1 != e * c2
        self.shortcut = nn.Sequential(Conv(c1, e * c2, k=1, s=s, act=False)) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.cv3(self.cv2(self.cv1(x))) + self.shortcut(x))


@register(_resnet_layer)
class ResNetLayer(nn.Module):
    """A stage of ResNet: the stem (7x7 convolution and pooling, stride 4) where `is_first`, else `n` bottlenecks."""

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
    """Two 3x3 convolutions with a shortcut; of ResNet-vd (https://arxiv.org/abs/1812.01187): it shrinks by pooling."""

    expansion = 1

    def __init__(self, c1, c2, s=1, projected=False, act="relu"):
        super().__init__()
        self.branch2a = ConvNormLayer(c1, c2, 3, s, act=act)
        self.branch2b = ConvNormLayer(c2, c2, 3, 1)
        self.short = nn.Identity()
        if projected:
            point = ConvNormLayer(c1, c2, 1, 1)
            self.short = nn.Sequential(nn.AvgPool2d(2, 2, 0, ceil_mode=True), point) if s == 2 else point
        self.act = nn.ReLU(inplace=True) if act == "relu" else nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.branch2b(self.branch2a(x)) + self.short(x))


@register(_resnet_vd_stage)
class Blocks(nn.Module):
    """Stage `stage` (2 to 5) of ResNet-vd: `n` blocks; the first has a projection and, from stage 3, stride 2."""

    def __init__(self, c1, c2, block, n, stage, act="relu"):
        super().__init__()
        self.blocks = nn.ModuleList()
        for i in range(n):
            self.blocks.append(block(c1, c2, 2 if i == 0 and stage != 2 else 1, projected=i == 0, act=act))
            c1 = c2 * block.expansion

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class DFL(nn.Module):
    """Expected value of a distribution over 0..c1-1 for each side of a box (arXiv:2006.04388)."""

    def __init__(self, c1=16):
        super().__init__()
        self.conv = nn.Conv2d(c1, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(c1, dtype=torch.float).view(1, c1, 1, 1)
        self.c1 = c1

    def forward(self, x: Tensor) -> Tensor:
        distribution = x.unflatten(1, (4, self.c1)).transpose(1, 2).softmax(1)  # (B, 4 c1, A) -> (B, c1, 4, A)
        return self.conv(distribution).flatten(1, 2)  # -> (B, 4, A)


class Proto(nn.Module):
    """Mask prototypes at twice the size (YOLACT)."""

    def __init__(self, c1, c_=256, c2=32):
        super().__init__()
        self.cv1 = Conv(c1, c_, k=3)
        self.upsample = nn.ConvTranspose2d(c_, c_, 2, 2, 0, bias=True)
        self.cv2, self.cv3 = Conv(c_, c_, k=3), Conv(c_, c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.cv2(self.upsample(self.cv1(x))))


@register(plans.conv)
class SPP(nn.Module):
    """Spatial pyramid pooling (arXiv:1406.4729): maxima over windows of several sizes side by side."""

    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__()
        hidden = c1 // 2
        self.cv1, self.cv2 = Conv(c1, hidden, 1, 1), Conv(hidden * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(side, stride=1, padding=side // 2) for side in k)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


@register(plans.conv)
class SPPF(nn.Module):
    """SPP with windows of growing size as `n` poolings of size `k` in a row.

    Its first convolution has an activation, as in the models YOLOv5 to YOLO12; with `shortcut` (YOLO26) it is linear.
    """

    n, add = 3, False  # pickles of older releases lack them

    def __init__(self, c1, c2, k=5, n=3, shortcut=False):
        super().__init__()
        hidden = c1 // 2
        self.cv1, self.cv2 = Conv(c1, hidden, 1, 1, act=not shortcut), Conv(hidden * (n + 1), c2, 1, 1)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)
        self.n, self.add = n, shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.cv1(x)]
        for _ in range(self.n):
            pooled.append(self.m(pooled[-1]))
        y = self.cv2(torch.cat(pooled, 1))
        return x + y if self.add else y


class Bottleneck(nn.Module):
    """Two convolutions with a shortcut where the channels agree."""

    def __init__(self, c1, c2, shortcut=True, g=1, k=(3, 3), e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, hidden, k[0], 1), Conv(hidden, c2, k[1], 1, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class RepBottleneck(Bottleneck):
    """Bottleneck whose first convolution is a RepConv."""

    def __init__(self, c1, c2, shortcut=True, g=1, k=(3, 3), e=0.5):
        super().__init__(c1, c2, shortcut, g, k, e)
        self.cv1 = RepConv(c1, int(c2 * e), k[0], 1)


class GhostBottleneck(nn.Module):
    """Two ghost convolutions with a shortcut; stride 2 by depthwise convolutions (arXiv:1911.11907)."""

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        half = c2 // 2
        down = DWConv(half, half, k, s, act=False) if s == 2 else nn.Identity()
        self.conv = nn.Sequential(GhostConv(c1, half, 1, 1), down, GhostConv(half, c2, 1, 1, act=False))
        shrink = (DWConv(c1, c1, k, s, act=False), Conv(c1, c2, 1, 1, act=False))
        self.shortcut = nn.Sequential(*shrink) if s == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)


register(plans.conv)(Bottleneck)
register(plans.conv)(GhostBottleneck)


@register(plans.csp)
class C1(nn.Module):
    """`n` 3x3 convolutions with one shortcut."""

    def __init__(self, c1, c2, n=1):
        super().__init__()
        self.cv1 = Conv(c1, c2, 1, 1)
        self.m = nn.Sequential(*(Conv(c2, c2, 3) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.m(x) + x


@register(plans.csp)
class C2(nn.Module):
    """CSP with two convolutions: half of the channels pass through `n` bottlenecks."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        self.c = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * self.c, 1, 1), Conv(2 * self.c, c2, 1)
        self.m = nn.Sequential(*(Bottleneck(self.c, self.c, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((self.m(a), b), 1))


@register(plans.csp)
class C2f(nn.Module):
    """CSP that keeps the output of every one of its `n` inner blocks (YOLOv8)."""

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__()
        self.c = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * self.c, 1, 1), Conv((2 + n) * self.c, c2, 1)
        self.m = nn.ModuleList(Bottleneck(self.c, self.c, shortcut, g, e=1.0) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        outputs = list(self.cv1(x).chunk(2, 1))  # 2 x (B, c, H, W)
        for block in self.m:
            outputs.append(block(outputs[-1]))
        return self.cv2(torch.cat(outputs, 1))  # (B, (2 + n) c, H, W) -> (B, c2, H, W)


@register(plans.csp)
class C3(nn.Module):
    """CSP with three convolutions: `n` bottlenecks on one branch, a pointwise convolution on the other."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        c_ = int(c2 * e)
        self.cv1, self.cv2, self.cv3 = Conv(c1, c_, 1, 1), Conv(c1, c_, 1, 1), Conv(2 * c_, c2, 1)
        self.m = nn.Sequential(*(Bottleneck(c_, c_, shortcut, g, k=(1, 3), e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


@register(plans.csp)
class C3x(C3):
    """C3 of crossed 1x3 and 3x1 convolutions."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, 0, shortcut, g, e)
        c_ = int(c2 * e)
        self.m = nn.Sequential(*(Bottleneck(c_, c_, shortcut, g, k=((1, 3), (3, 1)), e=1.0) for _ in range(n)))


@register(plans.csp)
class C3TR(C3):
    """C3 of transformer layers."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, 0, shortcut, g, e)
        self.m = TransformerBlock(int(c2 * e), int(c2 * e), 4, n)


@register(plans.csp)
class C3Ghost(C3):
    """C3 of ghost bottlenecks."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, 0, shortcut, g, e)
        self.m = nn.Sequential(*(GhostBottleneck(int(c2 * e), int(c2 * e)) for _ in range(n)))


class C3k(C3):
    """C3 with a kernel size of choice."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5, k=3):
        super().__init__(c1, c2, 0, shortcut, g, e)
        c_ = int(c2 * e)
        self.m = nn.Sequential(*(Bottleneck(c_, c_, shortcut, g, k=(k, k), e=1.0) for _ in range(n)))


class RepCSP(C3):
    """C3 of RepConv bottlenecks."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, 0, shortcut, g, e)
        self.m = nn.Sequential(*(RepBottleneck(int(c2 * e), int(c2 * e), shortcut, g, e=1.0) for _ in range(n)))


class C3f(nn.Module):
    """C3 that keeps the output of every bottleneck."""

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__()
        c_ = int(c2 * e)
        self.cv1, self.cv2, self.cv3 = Conv(c1, c_, 1, 1), Conv(c1, c_, 1, 1), Conv((2 + n) * c_, c2, 1)
        self.m = nn.ModuleList(Bottleneck(c_, c_, shortcut, g, k=(3, 3), e=1.0) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.cv2(x), self.cv1(x)]
        for block in self.m:
            outputs.append(block(outputs[-1]))
        return self.cv3(torch.cat(outputs, 1))


@register(plans.csp)
class BottleneckCSP(nn.Module):
    """The first CSP bottleneck (arXiv:1911.11929): one normalisation over both branches."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        c_ = int(c2 * e)
        self.cv1 = Conv(c1, c_, 1, 1)
        self.cv2, self.cv3 = nn.Conv2d(c1, c_, 1, bias=False), nn.Conv2d(c_, c_, 1, bias=False)
        self.cv4 = Conv(2 * c_, c2, 1, 1)
        self.bn, self.act = nn.BatchNorm2d(2 * c_), nn.SiLU()
        self.m = nn.Sequential(*(Bottleneck(c_, c_, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(joined)))

    @torch.no_grad()
    def fold(self) -> None:
        """Fold each half of the normalisation into the convolution before it, for inference."""
        if isinstance(self.bn, nn.Identity):
            return
        scales, offsets = (values.chunk(2) for values in batchnorm_affine(self.bn))
        for conv, scale, offset in zip((self.cv3, self.cv2), scales, offsets, strict=True):
            conv.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
            conv.bias = nn.Parameter(offset.to(conv.weight), requires_grad=False)
        self.bn = nn.Identity()


class Attention(nn.Module):
    """Self-attention over all positions, with a depthwise convolution as position encoding (YOLOv10)."""

    def __init__(self, dim, num_heads=8, attn_ratio=0.5):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.key_dim = int(self.head_dim * attn_ratio)
        self.scale = self.key_dim**-0.5
        self.qkv = Conv(dim, dim + 2 * num_heads * self.key_dim, 1, act=False)
        self.proj, self.pe = Conv(dim, dim, 1, act=False), Conv(dim, dim, 3, 1, g=dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).flatten(2).unflatten(1, (self.num_heads, -1))  # (B, heads, 2 key + head, H*W)
        q, k, v = qkv.split((self.key_dim, self.key_dim, self.head_dim), 2)
        weights = (q.transpose(2, 3) @ k * self.scale).softmax(-1)  # (B, heads, H*W, H*W)
        attended = (v @ weights.transpose(2, 3)).reshape(x.shape)
        return self.proj(attended + self.pe(v.reshape(x.shape)))


class PSABlock(nn.Module):
    """Attention and a feed-forward network, each with a shortcut."""

    def __init__(self, c, attn_ratio=0.5, num_heads=4, shortcut=True):
        super().__init__()
        self.attn = Attention(c, num_heads=num_heads, attn_ratio=attn_ratio)
        self.ffn = nn.Sequential(Conv(c, 2 * c, 1), Conv(2 * c, c, 1, act=False))
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x) if self.add else self.attn(x)
        return x + self.ffn(x) if self.add else self.ffn(x)


def _same_channels(name: str, c1: int, c2: int) -> None:
    if c1 != c2:
        raise ValueError(f"{name} keeps its channels: c2 must be c1 = {c1}, got {c2}")


@register(plans.conv)
class PSA(nn.Module):
    """Attention on half of the channels (YOLOv10, arXiv:2405.14458)."""

    def __init__(self, c1, c2, e=0.5):
        super().__init__()
        _same_channels("PSA", c1, c2)
        self.c = c = int(c1 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * c, 1, 1), Conv(2 * c, c1, 1)
        self.attn = Attention(c, attn_ratio=0.5, num_heads=max(c // 64, 1))
        self.ffn = nn.Sequential(Conv(c, 2 * c, 1), Conv(2 * c, c, 1, act=False))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, 1)
        b = b + self.attn(b)
        return self.cv2(torch.cat((a, b + self.ffn(b)), 1))


@register(plans.csp)
class C2PSA(nn.Module):
    """PSA with `n` attention blocks (YOLO11)."""

    def __init__(self, c1, c2, n=1, e=0.5):
        super().__init__()
        _same_channels("C2PSA", c1, c2)
        self.c = c = int(c1 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * c, 1, 1), Conv(2 * c, c1, 1)
        self.m = nn.Sequential(*(PSABlock(c, num_heads=max(c // 64, 1)) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((a, self.m(b)), 1))


@register(plans.csp)
class C2fPSA(C2f):
    """C2f of attention blocks."""

    def __init__(self, c1, c2, n=1, e=0.5):
        _same_channels("C2fPSA", c1, c2)
        super().__init__(c1, c2, n, e=e)
        self.m = nn.ModuleList(PSABlock(self.c, num_heads=max(self.c // 64, 1)) for _ in range(n))


@register(plans.csp)
class C3k2(C2f):
    """C2f of bottlenecks, of C3k (`c3k`), or of a bottleneck and attention each (`attn`) (YOLO11)."""

    def __init__(self, c1, c2, n=1, c3k=False, e=0.5, attn=False, g=1, shortcut=True):
        super().__init__(c1, c2, n, shortcut, g, e)
        c = self.c

        def inner() -> nn.Module:
            if attn:
                return nn.Sequential(Bottleneck(c, c, shortcut, g), PSABlock(c, num_heads=max(c // 64, 1)))
            return C3k(c, c, 2, shortcut, g) if c3k else Bottleneck(c, c, shortcut, g)

        self.m = nn.ModuleList(inner() for _ in range(n))


@register(plans.conv)
class SCDown(nn.Module):
    """Pointwise, then strided depthwise convolution (YOLOv10)."""

    def __init__(self, c1, c2, k, s):
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c2, 1, 1), Conv(c2, c2, k=k, s=s, g=c2, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv2(self.cv1(x))


@register(plans.channel_preserving)
class RepVGGDW(nn.Module):
    """Sum of a 7x7 and a 3x3 depthwise convolution, one 7x7 after folding (YOLOv10)."""

    def __init__(self, ed):
        super().__init__()
        self.conv, self.conv1 = (Conv(ed, ed, k, 1, k // 2, g=ed, act=False) for k in (7, 3))
        self.dim, self.act = ed, nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x) + self.conv1(x) if hasattr(self, "conv1") else self.conv(x))

    @torch.no_grad()
    def fold(self) -> None:
        """Merge both branches into one convolution, for inference."""
        if not hasattr(self, "conv1"):
            return
        wide, small = (
            branch.conv if isinstance(branch.bn, nn.Identity) else fold_batchnorm(branch.conv, branch.bn)
            for branch in (self.conv, self.conv1)
        )
        wide.weight += F.pad(small.weight, (2, 2, 2, 2))
        wide.bias += small.bias
        del self.conv1
        self.conv = wide


class CIB(nn.Module):
    """Compact inverted block (YOLOv10): depthwise and pointwise convolutions in turn; `lk` for a 7x7 in the middle."""

    def __init__(self, c1, c2, shortcut=True, e=0.5, lk=False):
        super().__init__()
        wide = 2 * int(c2 * e)
        middle = RepVGGDW(wide) if lk else Conv(wide, wide, 3, g=wide)
        self.cv1 = nn.Sequential(
            Conv(c1, c1, 3, g=c1), Conv(c1, wide, 1), middle, Conv(wide, c2, 1), Conv(c2, c2, 3, g=c2)
        )
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv1(x) if self.add else self.cv1(x)


@register(plans.csp)
class C2fCIB(C2f):
    """C2f of compact inverted blocks."""

    def __init__(self, c1, c2, n=1, shortcut=False, lk=False, g=1, e=0.5):
        super().__init__(c1, c2, n, shortcut, g, e)
        self.m = nn.ModuleList(CIB(self.c, self.c, shortcut, e=1.0, lk=lk) for _ in range(n))


@register(plans.conv)
class RepNCSPELAN4(nn.Module):
    """Four-branch aggregation of RepCSP blocks (GELAN of YOLOv9, arXiv:2402.13616)."""

    def __init__(self, c1, c2, c3, c4, n=1):
        super().__init__()
        self.c = c3 // 2
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2 = nn.Sequential(RepCSP(c3 // 2, c4, n), Conv(c4, c4, 3, 1))
        self.cv3 = nn.Sequential(RepCSP(c4, c4, n), Conv(c4, c4, 3, 1))
        self.cv4 = Conv(c3 + 2 * c4, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = list(self.cv1(x).chunk(2, 1))
        for block in (self.cv2, self.cv3):
            outputs.append(block(outputs[-1]))
        return self.cv4(torch.cat(outputs, 1))


@register(plans.conv)
class ELAN1(RepNCSPELAN4):
    """The same aggregation of single convolutions."""

    def __init__(self, c1, c2, c3, c4):
        super().__init__(c1, c2, c3, c4)
        self.cv2, self.cv3 = Conv(c3 // 2, c4, 3, 1), Conv(c4, c4, 3, 1)


@register(plans.conv)
class AConv(nn.Module):
    """Average pooling, then a strided convolution (YOLOv9)."""

    def __init__(self, c1, c2):
        super().__init__()
        self.cv1 = Conv(c1, c2, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv1(F.avg_pool2d(x, 2, 1))


@register(plans.conv)
class ADown(nn.Module):
    """Downsampling: half of the channels by a strided convolution, half by pooling (YOLOv9)."""

    def __init__(self, c1, c2):
        super().__init__()
        self.c = c2 // 2
        self.cv1, self.cv2 = Conv(c1 // 2, self.c, 3, 2, 1), Conv(c1 // 2, self.c, 1, 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.avg_pool2d(x, 2, 1).chunk(2, 1)
        return torch.cat((self.cv1(a), self.cv2(F.max_pool2d(b, 3, 2, 1))), 1)


@register(plans.conv)
class SPPELAN(nn.Module):
    """Poolings in a row, aggregated (YOLOv9)."""

    def __init__(self, c1, c2, c3, k=5):
        super().__init__()
        self.c = c3
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2, self.cv3, self.cv4 = (nn.MaxPool2d(k, stride=1, padding=k // 2) for _ in range(3))
        self.cv5 = Conv(4 * c3, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.cv1(x)]
        for pool in (self.cv2, self.cv3, self.cv4):
            outputs.append(pool(outputs[-1]))
        return self.cv5(torch.cat(outputs, 1))


class CBLinear(nn.Module):
    """A convolution whose output is split into maps of `c2s` channels (CBNet)."""

    def __init__(self, c1, c2s, k=1, s=1, p=None, g=1):
        super().__init__()
        self.c2s = c2s
        self.conv = nn.Conv2d(c1, sum(c2s), k, s, autopad(k, p), groups=g, bias=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.conv(x).split(self.c2s, 1)


class CBFuse(nn.Module):
    """Sum of the last map and of map `idx[i]` of each CBLinear before it, resized to the last."""

    def __init__(self, idx):
        super().__init__()
        self.idx = idx

    def forward(self, xs: list) -> Tensor:
        *groups, last = xs
        chosen = (group[i] for group, i in zip(groups, self.idx, strict=False))
        return last + sum(F.interpolate(x, size=last.shape[2:], mode="nearest") for x in chosen)


class AAttn(nn.Module):
    """Attention within `area` equal strips of the map (YOLO12, arXiv:2502.12524)."""

    def __init__(self, dim, num_heads, area=1):
        super().__init__()
        self.area, self.num_heads, self.head_dim = area, num_heads, dim // num_heads
        inner = self.head_dim * num_heads
        self.qkv, self.proj = Conv(dim, 3 * inner, 1, act=False), Conv(inner, dim, 1, act=False)
        self.pe = Conv(inner, dim, 7, 1, 3, g=dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        tokens = self.qkv(x).flatten(2).unflatten(2, (self.area, -1))  # (B, 3 C, area, H*W / area)
        heads = tokens.transpose(1, 2).unflatten(2, (self.num_heads, -1))  # (B, area, heads, 3 head_dim, N)
        q, k, v = heads.chunk(3, 3)
        weights = (q.transpose(3, 4) @ k * self.head_dim**-0.5).softmax(-1)  # (B, area, heads, N, N)
        attended, v = (t.flatten(2, 3).transpose(1, 2).reshape(b, -1, h, w) for t in (v @ weights.mT, v))
        return self.proj(attended + self.pe(v))


class ABlock(nn.Module):
    """Area attention and a feed-forward network, each with a shortcut."""

    def __init__(self, dim, num_heads, mlp_ratio=1.2, area=1):
        super().__init__()
        self.attn = AAttn(dim, num_heads=num_heads, area=area)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(Conv(dim, hidden, 1), Conv(hidden, dim, 1, act=False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


@register(plans.csp)
class A2C2f(nn.Module):
    """Aggregation of `n` pairs of area attention blocks, or of C3k where not `a2` (YOLO12)."""

    def __init__(
        self, c1, c2, n=1, a2=True, area=1, residual=False, mlp_ratio=2.0, e=0.5, g=1, shortcut=True
    ):  # fmt: skip
        super().__init__()
        c_ = int(c2 * e)
        if a2 and c_ % 32:
            raise ValueError(f"A2C2f: c2 * e must be a multiple of 32, got {c_}")
        self.cv1, self.cv2 = Conv(c1, c_, 1, 1), Conv((1 + n) * c_, c2, 1)
        self.gamma = nn.Parameter(0.01 * torch.ones(c2)) if a2 and residual else None

        def inner() -> nn.Module:
            if a2:
                return nn.Sequential(*(ABlock(c_, c_ // 32, mlp_ratio, area) for _ in range(2)))
            return C3k(c_, c_, 2, shortcut, g)

        self.m = nn.ModuleList(inner() for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.cv1(x)]
        for block in self.m:
            outputs.append(block(outputs[-1]))
        y = self.cv2(torch.cat(outputs, 1))
        return y if self.gamma is None else x + self.gamma.view(1, -1, 1, 1) * y
