from torch import nn

from ..extra_modules.attention import StripGate
from .conv import Conv, DSConv

__all__ = ("OnlyInFork", "GatedInFork", "RepC3")


class OnlyInFork(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv = Conv(c1, c2, 3)

    def forward(self, x):
        return self.conv(x)


class GatedInFork(nn.Module):
    def __init__(self, c1, c2, k=7):
        super().__init__()
        self.conv, self.gate = DSConv(c1, c2), StripGate(c2, k)

    def forward(self, x):
        return self.gate(self.conv(x))


class RepC3(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
