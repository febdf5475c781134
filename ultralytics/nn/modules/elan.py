"""Pooling pyramids (SPP) and the blocks of YOLOv9 (arXiv:2402.13616): GELAN, downsampling, CBNet links."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_multiple, require_odd
from ultralytics.nn.modules.conv import Conv, autopad, chained
from ultralytics.nn.modules.csp import RepCSP
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError


@register(plans.conv)
class SPP(nn.Module):
    """Spatial pyramid pooling with odd window sizes `k` (SPPNet, arXiv:1406.4729)."""

    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__()
        for side in k:
            require_odd("SPP", k=side)
        hidden = c1 // 2
        self.cv1, self.cv2 = Conv(c1, hidden, 1, 1), Conv(hidden * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(side, stride=1, padding=side // 2) for side in k)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)  # (B, c1, H, W) -> (B, c1 / 2, H, W)
        return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


def _sppf(ctx: RowContext, c2: int, *args: Any) -> LayerSpec:
    spec = plans.conv(ctx, c2, *args)
    return spec if len(args) > 1 else replace(spec, kwargs={"act": True})


@register(_sppf)
class SPPF(nn.Module):
    """SPP by `n` sequential poolings of odd size `k`.

    With `shortcut` (YOLO26) the input is added if c1 == c2. As published, the first convolution has an activation only
    in rows with neither `n` nor `shortcut`, as in the files of YOLOv5 to YOLO11.
    """

    n, add = 3, False  # pickles of older releases lack them

    def __init__(self, c1, c2, k=5, n=3, shortcut=False, act=False):
        super().__init__()
        require_odd("SPPF", k=k)
        hidden = c1 // 2
        self.cv1, self.cv2 = Conv(c1, hidden, 1, 1, act=act), Conv(hidden * (n + 1), c2, 1, 1)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)
        self.n, self.add = n, shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        pooled = chained([self.cv1(x)], [self.m] * self.n)
        y = self.cv2(torch.cat(pooled, 1))  # (B, (n + 1) c1 / 2, H, W) -> (B, c2, H, W)
        return x + y if self.add else y


class EarlierSPPF(SPPF):
    """SPPF as module files of forks expect it: with all activations, as before 8.4, unless `n` is given."""

    def __init__(self, c1, c2, k=5, *args):
        super().__init__(c1, c2, k, *args, act=not args)


SPPF.in_module_files = EarlierSPPF


@register(plans.conv)
class SPPELAN(nn.Module):
    """Three sequential poolings of odd size `k` on c3 channels, concatenated (YOLOv9)."""

    def __init__(self, c1, c2, c3, k=5):
        super().__init__()
        require_odd("SPPELAN", k=k)
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2, self.cv3, self.cv4 = (nn.MaxPool2d(k, stride=1, padding=k // 2) for _ in range(3))
        self.cv5 = Conv(4 * c3, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = chained([self.cv1(x)], (self.cv2, self.cv3, self.cv4))
        return self.cv5(torch.cat(outputs, 1))  # (B, 4 c3, H, W) -> (B, c2, H, W)


@register(plans.conv)
class RepNCSPELAN4(nn.Module):
    """GELAN: both halves of c3 channels and two sequential blocks of c4 channels, concatenated."""

    def __init__(self, c1, c2, c3, c4, n=1):
        super().__init__()
        self.c = c3 // 2
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2, self.cv3 = self._block(self.c, c4, n), self._block(c4, c4, n)
        self.cv4 = Conv(c3 + 2 * c4, c2, 1, 1)

    @staticmethod
    def _block(c1: int, c2: int, n: int) -> nn.Module:
        return nn.Sequential(RepCSP(c1, c2, n), Conv(c2, c2, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, 1)  # (B, c1, H, W) -> 2 x (B, c3 / 2, H, W)
        c = self.cv2(b)
        return self.cv4(torch.cat((a, b, c, self.cv3(c)), 1))  # (B, c3 + 2 c4, H, W) -> (B, c2, H, W)


@register(plans.conv)
class ELAN1(RepNCSPELAN4):
    """GELAN with single convolutions as blocks."""

    def __init__(self, c1, c2, c3, c4):
        super().__init__(c1, c2, c3, c4)

    @staticmethod
    def _block(c1: int, c2: int, n: int) -> nn.Module:
        return Conv(c1, c2, 3, 1)


@register(plans.conv)
class AConv(nn.Module):
    """2x2 average pooling at stride 1, then a convolution of stride 2."""

    def __init__(self, c1, c2):
        super().__init__()
        self.cv1 = Conv(c1, c2, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv1(F.avg_pool2d(x, 2, 1))  # (B, c1, H, W) -> (B, c1, H - 1, W - 1) -> (B, c2, H / 2, W / 2)


@register(plans.conv)
class ADown(nn.Module):
    """Downsample by 2: a strided convolution on half of the channels, max pooling and a 1x1 one on the other half."""

    def __init__(self, c1, c2):
        super().__init__()
        require_multiple("ADown", 2, c1=c1, c2=c2)
        self.c = c2 // 2
        self.cv1, self.cv2 = Conv(c1 // 2, self.c, 3, 2, 1), Conv(c1 // 2, self.c, 1, 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.avg_pool2d(x, 2, 1).chunk(2, 1)  # 2 x (B, c1 / 2, H - 1, W - 1)
        return torch.cat((self.cv1(a), self.cv2(F.max_pool2d(b, 3, 2, 1))), 1)  # (B, c2, H / 2, W / 2)


def _cb_linear(ctx: RowContext, c2s: list[int], *args: Any) -> LayerSpec:
    """Plan a row `[c2s, k, s, ...]`; the maps have one layer number, which CBFuse reads."""
    ctx.require_once()
    return LayerSpec((ctx.c1, c2s, *args), list(c2s))


def _cb_fuse(ctx: RowContext, idx: list[int]) -> LayerSpec:
    """Plan a row `[idx]` with one index for each CBLinear that it reads before the last map."""
    ctx.require_once()
    if len(idx) != len(ctx.inputs) - 1:
        raise ModelConfigError(f"CBFuse reads {len(ctx.inputs)} layers; expected one index fewer, got {idx}")
    return LayerSpec((idx,), ctx.inputs[-1])


@register(_cb_linear)
class CBLinear(nn.Module):
    """Convolution whose output is split into maps of `c2s` channels (CBNet, arXiv:1909.03625)."""

    def __init__(self, c1, c2s, k=1, s=1, p=None, g=1):
        super().__init__()
        self.c2s = c2s
        self.conv = nn.Conv2d(c1, sum(c2s), k, s, autopad(k, p), groups=g, bias=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.conv(x).split(self.c2s, 1)


@register(_cb_fuse)
class CBFuse(nn.Module):
    """Sum of the last map and of map `idx[i]` of each CBLinear, resized to the last."""

    def __init__(self, idx):
        super().__init__()
        self.idx = idx

    def forward(self, xs: list) -> Tensor:
        *groups, last = xs
        chosen = (group[i] for group, i in zip(groups, self.idx, strict=True))
        return last + sum(F.interpolate(x, size=last.shape[2:], mode="nearest") for x in chosen)
