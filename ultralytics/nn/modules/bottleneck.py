"""Bottlenecks, the inner blocks of the CSP family."""

from __future__ import annotations

from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.checks import require_multiple, require_same
from ultralytics.nn.modules.conv import Conv, DWConv, GhostConv, RepConv
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError


@register(plans.conv)
class Bottleneck(nn.Module):
    """Two convolutions of kernels `k`, `e` * c2 channels between them; with `shortcut` a sum where c1 is c2."""

    def __init__(self, c1, c2, shortcut=True, g=1, k=(3, 3), e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, hidden, k[0], 1), Conv(hidden, c2, k[1], 1, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))  # (B, c1, H, W) -> (B, e c2, H, W) -> (B, c2, H, W)
        return x + y if self.add else y


class RepBottleneck(Bottleneck):
    """Bottleneck whose first convolution is a RepConv (YOLOv9, arXiv:2402.13616)."""

    def __init__(self, c1, c2, shortcut=True, g=1, k=(3, 3), e=0.5):
        super().__init__(c1, c2, shortcut, g, k, e)
        self.cv1 = RepConv(c1, int(c2 * e), k[0], 1, None)


@register(plans.conv)
class GhostBottleneck(nn.Module):
    """Two ghost convolutions with a shortcut; stride 2 by depthwise convolutions (GhostNet, arXiv:1911.11907).

    Raises:
        ModelConfigError: c2 is no multiple of 4 (each ghost convolution halves it); c1 is not c2 at stride 1; another
            stride than 1 and 2.
    """

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        if s not in (1, 2):
            raise ModelConfigError(f"GhostBottleneck: s must be 1 or 2, got {s}")
        require_multiple("GhostBottleneck", 4, c2=c2)
        if s == 1:
            require_same("GhostBottleneck of stride 1", c1=c1, c2=c2)
        half = c2 // 2
        down = DWConv(half, half, k, s, act=False) if s == 2 else nn.Identity()
        self.conv = nn.Sequential(GhostConv(c1, half, 1, 1), down, GhostConv(half, c2, 1, 1, act=False))
        shrink = (DWConv(c1, c1, k, s, act=False), Conv(c1, c2, 1, 1, act=False))
        self.shortcut = nn.Sequential(*shrink) if s == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)  # (B, c1, H, W) -> (B, c2, H / s, W / s)
