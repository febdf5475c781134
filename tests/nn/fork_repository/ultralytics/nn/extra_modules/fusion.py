import torch
import torch.nn as nn
import torch.nn.functional as F

from ultralytics.nn.modules import Conv, NobodysFusion

__all__ = [
    "Fusion",
    "ScalSeq3",
    "Add",
    "BiFuse",
    "PairGate",
    "TokenMix",
    "Inject",
    "SumTo",
    "Squeeze",
    "SliceCat",
    "LastWidth",
    "Heads",
]


class Fusion(nn.Module):
    def __init__(self, inc_list, fusion="bifpn"):
        super().__init__()
        assert fusion in ("weight", "adaptive", "concat", "bifpn")
        self.fusion = fusion
        if fusion == "bifpn":
            self.weight = nn.Parameter(torch.ones(len(inc_list)))
        elif fusion != "concat":
            self.conv = nn.ModuleList(Conv(inc, inc_list[0], 1) for inc in inc_list)

    def forward(self, x):
        if self.fusion == "concat":
            return torch.cat(x, 1)
        if self.fusion == "bifpn":
            return sum(w * part for w, part in zip(self.weight.relu(), x))
        return sum(conv(part) for conv, part in zip(self.conv, x))


class ScalSeq3(nn.Module):
    def __init__(self, inc, channel):
        super().__init__()
        self.convs = nn.ModuleList(Conv(c, channel, 1) for c in inc)
        self.conv3d, self.bn = nn.Conv3d(channel, channel, 1), nn.BatchNorm3d(channel)

    def forward(self, x):
        size = x[0].shape[2:]
        levels = torch.stack([F.interpolate(conv(part), size=size) for conv, part in zip(self.convs, x)], 2)
        return self.bn(self.conv3d(levels)).amax(2)


class Add(nn.Module):
    def forward(self, x):
        return torch.sum(torch.stack(x, 0), 0)


class BiFuse(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(length))

    def forward(self, x):
        return sum(w * part for w, part in zip(self.weight, x))


class PairGate(nn.Module):
    def __init__(self, dim, reduction=8):
        super().__init__()
        self.gate = nn.Conv2d(dim, dim, 1)

    def forward(self, data):
        x, y = data
        return x + y * self.gate(x).sigmoid()


class TokenMix(nn.Module):
    def __init__(self, c_low, c_up, c2, n=1):
        super().__init__()
        self.low, self.up = Conv(c_low, c2), nn.Sequential(*(Conv(c_up if i == 0 else c2, c2) for i in range(n)))

    def forward(self, x):
        low, up = x
        return self.low(low) + F.interpolate(self.up(up), size=low.shape[2:])


class Inject(nn.Module):
    def __init__(self, inp, oup, widths, flag):
        super().__init__()
        self.widths, self.flag = widths, flag
        self.local, self.extern = Conv(inp, oup), Conv(widths[flag], oup)

    def forward(self, x):
        local, extern = x
        return self.local(local) * self.extern(extern.split(self.widths, 1)[self.flag])


class SumTo(nn.Module):
    def __init__(self, inc, stride=2):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(inc, 64, 1)

    def forward(self, x):
        return self.conv(torch.cat(x, 1))


class Squeeze(nn.Module):
    def __init__(self, inc, ouc):
        super().__init__()
        self.conv = Conv(inc[-1], ouc[-1] if isinstance(ouc, list) else ouc)

    def forward(self, x):
        return self.conv(x[-1])


class LastWidth(Squeeze):
    pass


class Heads(nn.Module):
    def __init__(self, nc=80, hidc=256, ch=()):
        super().__init__()
        self.convs = nn.ModuleList(Conv(c, hidc) for c in ch)

    def forward(self, x):
        return self.convs[0](x[0])


class SliceCat(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.first, self.second = Conv(c1, c1 // 2), Conv(c2, c2 // 2)

    def forward(self, x):
        return torch.cat((self.first(x[0]), self.second(x[1])), 1)
