"""Partial convolution: a 3x3 convolution on a part of the channels; the others are unchanged.

"Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks" (FasterNet), Chen, Kao, He, Zhuo, Wen, Lee, Chan,
CVPR 2023, https://arxiv.org/abs/2303.03667.
"""

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_odd, require_whole
from ultralytics.nn.modules.block import RepC3
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import register


@register(plans.channel_preserving, overridable=True)
class PConv(nn.Module):
    """`[parts, k]`: a k x k convolution on the first 1 / `parts` of the channels, k^2 (C / parts)^2 parameters."""

    def __init__(self, channels: int, parts: int = 4, k: int = 3):
        super().__init__()
        require_whole("PConv", parts=parts)
        require_odd("PConv", k=k)
        self.convolved = channels // parts
        self.passed = channels - self.convolved
        self.conv = nn.Conv2d(self.convolved, self.convolved, k, padding=k // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        convolved, passed = x.split((self.convolved, self.passed), 1)  # (B, C / parts, H, W), the rest
        return torch.cat((self.conv(convolved), passed), 1)  # (B, C, H, W)


@register(plans.channel_preserving, overridable=True)
class FasterBlock(nn.Module):
    """`[parts, expansion]`: the block of FasterNet, without its stochastic depth."""

    def __init__(self, channels: int, parts: int = 4, expansion: int = 2):
        super().__init__()
        require_whole("FasterBlock", expansion=expansion)
        self.mix = PConv(channels, parts)
        self.widen = Conv(channels, expansion * channels, 1, act=nn.ReLU())
        self.narrow = nn.Conv2d(expansion * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.widen(self.mix(x))  # (B, C, H, W) -> (B, expansion * C, H, W)
        return x + self.narrow(y)  # (B, C, H, W)


@register(plans.csp, overridable=True)
class FasterC3(RepC3):
    """`[c2, e, parts, expansion]`: RT-DETR's fusion block (`RepC3`) with `n` FasterNet blocks (not in the paper)."""

    def __init__(self, c1: int, c2: int, n: int = 3, e: float = 0.5, parts: int = 4, expansion: int = 2):
        super().__init__(c1, c2, n, e, inner=lambda hidden: FasterBlock(hidden, parts, expansion))
