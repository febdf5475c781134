"""Bottleneck of ResNet-vd, the block of RT-DETR's ResNet-50 and ResNet-101.

"Bag of Tricks for Image Classification with Convolutional Neural Networks", He et al., CVPR 2019,
https://arxiv.org/abs/1812.01187 (ResNet-D): the stride is in the 3x3 convolution, and the shortcut shrinks by pooling
before its 1x1 convolution. Parameter names are those of the official RT-DETR, whose weights load.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ultralytics.nn.modules.conv import ConvNormLayer
from ultralytics.nn.registry import Context, Plan, register


def plan(ctx: Context, c2: int, *args: Any) -> Plan:
    """`[channels, stride, projected, act]`; four times the channels come out."""
    return Plan((ctx.c1, c2, *args), BottleNeck.expansion * c2)


@register(plan, yields=True)
class BottleNeck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a shortcut; for a row of `Blocks`: `[channels, BottleNeck, blocks, stage]`.

    Args:
        c1: channels that come in.
        c2: channels of the 3x3 convolution; four times as many come out.
        s: stride, 1 or 2.
        projected: whether the shortcut has a convolution, as where channels or size change.
        act: `relu` or `silu`.
    """

    expansion = 4

    def __init__(self, c1, c2, s=1, projected=False, act="relu"):
        super().__init__()
        wide = self.expansion * c2
        self.branch2a = ConvNormLayer(c1, c2, 1, 1, act=act)
        self.branch2b = ConvNormLayer(c2, c2, 3, s, act=act)
        self.branch2c = ConvNormLayer(c2, wide, 1, 1)
        self.short = nn.Identity()
        if projected:
            point = ConvNormLayer(c1, wide, 1, 1)
            self.short = nn.Sequential(nn.AvgPool2d(2, 2, 0, ceil_mode=True), point) if s == 2 else point
        self.act = nn.ReLU(inplace=True) if act == "relu" else nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch2c(self.branch2b(self.branch2a(x)))  # (B, c1, H, W) -> (B, 4 c2, H / s, W / s)
        return self.act(out + self.short(x))
