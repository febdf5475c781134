"""Convolutions as such folders carry them: with helpers named like those of the package."""

import torch
from torch import nn

from ..modules.conv import autopad

__all__ = ["Conv", "SepConv", "SpaceToDepth", "Halve"]


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, p=None, g=1, d=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, autopad(k, p, d), groups=g, dilation=d, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class DropPath(nn.Module):
    def forward(self, x):
        return x


class SepConv(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=3, stride=1):
        super().__init__()
        self.depth = Conv(in_channels, in_channels, kernel_size, stride, g=in_channels)
        self.point = Conv(in_channels, out_channels)

    def forward(self, x):
        return self.point(self.depth(x))


class SpaceToDepth(nn.Module):
    def __init__(self, dimension=1):
        super().__init__()
        self.d = dimension

    def forward(self, x):
        return torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], self.d)


class Halve(nn.Module):
    def __init__(self, inc, ouc):
        super().__init__()
        self.conv = Conv(inc * 4, ouc)
        self.split = SpaceToDepth()

    def forward(self, x):
        return self.conv(self.split(x))
