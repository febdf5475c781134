"""Attention in the ways that circulate: channels first under many names, in and out, none at all, sizes."""

import math

import torch
from torch import nn

__all__ = ["Gate", "InOutGate", "Free", "WithDefault", "Sized", "Positions", "TableOnCpu", "Optional"]

print("attention is imported")


class Gate(nn.Module):
    def __init__(self, dim, reduction=16):
        super().__init__()
        self.fc = nn.Sequential(nn.Conv2d(dim, dim // reduction, 1), nn.ReLU(), nn.Conv2d(dim // reduction, dim, 1))

    def forward(self, x):
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


class InOutGate(nn.Module):
    def __init__(self, inp, oup, reduction=32):
        super().__init__()
        self.reduction = reduction
        self.conv = nn.Conv2d(inp, oup, 1)

    def forward(self, x):
        return x * self.conv(x).sigmoid()


class Free(nn.Module):
    def __init__(self, e_lambda=1e-4):
        super().__init__()
        self.e_lambda = e_lambda

    def forward(self, x):
        return x * (x - x.mean((2, 3), keepdim=True)).square().add(self.e_lambda).sigmoid()


class TwoGates(nn.Module):
    def __init__(self, no_spatial=False):
        super().__init__()
        self.vertical = nn.Conv2d(1, 1, 7, padding=3)
        self.spatial = None if no_spatial else nn.Conv2d(1, 1, 7, padding=3)

    def forward(self, x):
        gates = [gate(x.mean(1, keepdim=True)) for gate in (self.vertical, self.spatial) if gate]
        return x * sum(gates).sigmoid()


class WithDefault(nn.GroupNorm):
    def __init__(self, channel=512, G=8):
        super().__init__(G, channel)


class Optional(nn.GroupNorm):
    def __init__(self, channels, c2=None, factor=8):
        super().__init__(factor, channels)


class Sized(nn.Module):
    def __init__(self, dim, input_resolution):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, dim, *input_resolution))

    def forward(self, x):
        return x + self.bias


class Positions(nn.Module):
    def __init__(self, n_dims, width=14, height=14, heads=4):
        super().__init__()
        self.rel_h = nn.Parameter(torch.zeros(1, n_dims, height, 1))
        self.rel_w = nn.Parameter(torch.zeros(1, n_dims, 1, width))
        self.heads = heads

    def forward(self, x):
        return x + self.rel_h + self.rel_w


class TableOnCpu(nn.Module):
    """Keeps a tensor that is no buffer and reads a value: it cannot run on the meta device."""

    def __init__(self, channels):
        super().__init__()
        self.table = torch.ones(1, channels, 1, 1)

    def forward(self, x):
        return x * self.table if float(x.mean()) < math.inf else x
