"""Blocks of YOLOv10 (arXiv:2405.14458) without attention: cheap downsampling and the compact inverted block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.conv import Conv, fold_batchnorm
from ultralytics.nn.modules.csp import C2f
from ultralytics.nn.registry import register


@register(plans.conv)
class SCDown(nn.Module):
    """Pointwise, then depthwise convolution of stride `s`."""

    def __init__(self, c1, c2, k, s):
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c2, 1, 1), Conv(c2, c2, k=k, s=s, g=c2, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv2(self.cv1(x))  # (B, c1, H, W) -> (B, c2, H, W) -> (B, c2, H / s, W / s)


@register(plans.channel_preserving)
class RepVGGDW(nn.Module):
    """Sum of a 7x7 and a 3x3 depthwise convolution, one 7x7 after folding."""

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
    """Compact inverted block: depthwise and pointwise convolutions in turn; `lk` for a 7x7 in the middle.

    With `shortcut` the input is added where c1 is c2.
    """

    def __init__(self, c1, c2, shortcut=True, e=0.5, lk=False):
        super().__init__()
        wide = 2 * int(c2 * e)
        middle = RepVGGDW(wide) if lk else Conv(wide, wide, 3, g=wide)
        self.cv1 = nn.Sequential(
            Conv(c1, c1, 3, g=c1), Conv(c1, wide, 1), middle, Conv(wide, c2, 1), Conv(c2, c2, 3, g=c2)
        )
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)  # (B, c1, H, W) -> (B, c2, H, W)
        return x + y if self.add else y


@register(plans.csp)
class C2fCIB(C2f):
    """C2f of compact inverted blocks; they are depthwise, so that `g` has no meaning: its place is before `e`."""

    def __init__(self, c1, c2, n=1, shortcut=False, lk=False, g=1, e=0.5):
        super().__init__(c1, c2, n, e=e, inner=lambda c: CIB(c, c, shortcut, e=1.0, lk=lk))
