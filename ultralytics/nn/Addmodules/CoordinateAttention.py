"""Coordinate attention: a gate along the height and a gate along the width.

"Coordinate Attention for Efficient Mobile Network Design", Hou, Zhou, Feng, CVPR 2021, https://arxiv.org/abs/2103.02907.
"""

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_whole
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import register

MIN_HIDDEN = 8  # minimum hidden channels


@register(plans.channel_preserving, overridable=True)
class CoordAtt(nn.Module):
    """`[reduction]`: Figure 2 (c) of the paper; gates start near 0.25."""

    def __init__(self, channels: int, reduction: int = 32):
        super().__init__()
        require_whole("CoordAtt", reduction=reduction)
        hidden = max(MIN_HIDDEN, channels // reduction)
        self.joint = Conv(channels, hidden, 1, act=nn.Hardswish())
        self.gate_h = nn.Conv2d(hidden, channels, 1)
        self.gate_w = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        rows = x.mean(3, keepdim=True)  # (B, C, H, W) -> (B, C, H, 1)
        columns = x.mean(2, keepdim=True).transpose(2, 3)  # (B, C, H, W) -> (B, C, W, 1)
        strips = self.joint(torch.cat((rows, columns), 2))  # (B, hidden, H + W, 1)
        gate_h = self.gate_h(strips[:, :, :height]).sigmoid()  # (B, C, H, 1)
        gate_w = self.gate_w(strips[:, :, height:]).sigmoid().transpose(2, 3)  # (B, C, 1, W)
        return x * gate_h * gate_w
