"""CSP-like blocks, which take their repeats from the second column, and blocks named by a string."""

from torch import nn

from ultralytics.nn.modules import Conv

from .attention import *
from .conv import SepConv
from .needs_package import *

__all__ = ("CSPGate", "Stack", "PlainBlock", "C3_Light", "Repeated", "Blocks")


class PlainBlock(nn.Module):
    expansion = 2

    def __init__(self, ch_in, ch_out, shortcut=True):
        super().__init__()
        self.conv = SepConv(ch_in, ch_out)
        self.add = shortcut and ch_in == ch_out

    def forward(self, x):
        return x + self.conv(x) if self.add else self.conv(x)


class CSPGate(nn.Module):
    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__()
        self.cv1 = Conv(c1, c2, 1)
        self.m = nn.Sequential(*(Gate(c2, 8) for _ in range(n)))
        self.shortcut, self.g, self.e = shortcut, g, e

    def forward(self, x):
        return self.m(self.cv1(x))


class C3_Light(CSPGate):
    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, shortcut, g, e)
        self.m = nn.Sequential(*(PlainBlock(c2, c2, shortcut) for _ in range(n)))


class Stack(nn.Module):
    def __init__(self, ch_in, ch_out, block, count):
        super().__init__()
        layers = [block(ch_in if i == 0 else ch_out * block.expansion, ch_out * block.expansion) for i in range(count)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class Repeated(nn.Module):
    """Its repeats are under a name of its own."""

    def __init__(self, c1, c2, c5=1):
        super().__init__()
        self.layers = nn.Sequential(*(Conv(c1 if i == 0 else c2, c2) for i in range(c5)))

    def forward(self, x):
        return self.layers(x)


class Blocks(nn.Module):
    """Looks up its block by name itself."""

    def __init__(self, ch_in, ch_out, count, block, stage_num, att=False):
        super().__init__()
        kind = globals()[block]
        self.first = kind(ch_in, ch_out * kind.expansion)
        self.rest = nn.Sequential(*(kind(ch_out * kind.expansion, ch_out * kind.expansion) for _ in range(count - 1)))

    def forward(self, x):
        return self.rest(self.first(x))


class Stage(nn.Module):
    """Has inner channels, and its repeats in the middle of the arguments."""

    def __init__(self, c1, cm, c2, k=3, n=6, lightconv=False):
        super().__init__()
        self.layers = nn.Sequential(*(Conv(c1 if i == 0 else cm, cm, k) for i in range(n)), Conv(cm, c2))

    def forward(self, x):
        return self.layers(x)


class Scaled(nn.Module):
    """Keeps the channels, which its row gives too large."""

    def __init__(self, c1, c2, n=1):
        super().__init__()
        assert c1 == c2
        self.layers = nn.Sequential(*(Conv(c1, c2) for _ in range(n)))

    def forward(self, x):
        return self.layers(x)


class Leveled(nn.Module):
    def __init__(self, level, channel=(64, 32)):
        super().__init__()
        self.level = level
        self.convs = nn.ModuleList(Conv(c, channel[level], 1) for c in channel)

    def forward(self, x):
        return sum(conv(part) for conv, part in zip(self.convs, x))
