"""Modules with several inputs."""

import torch
from torch import nn


class WeightedSum(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(length))

    def forward(self, x):
        return sum(w * level for w, level in zip(self.weight, x))


class ConcatAlong(nn.Module):
    def __init__(self, dimension=1):
        super().__init__()
        self.d = dimension

    def forward(self, x):
        return torch.cat(x, self.d)


class Fusion(nn.Module):
    def __init__(self, inc_list, fusion="adaptive"):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, inc_list[0], 1) for c in inc_list)
        self.fusion = fusion

    def forward(self, x):
        return sum(conv(level) for conv, level in zip(self.convs, x))


class Project(Fusion):
    def __init__(self, in_channels_list, out_channels):
        nn.Module.__init__(self)
        self.convs = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels_list)


class Pair(nn.Module):
    def __init__(self, dim, reduction=8):
        super().__init__()
        self.fc = nn.Conv2d(dim, dim, 1, groups=reduction)

    def forward(self, x, y):
        weight = self.fc(x + y).sigmoid()
        return weight * x + (1 - weight) * y
