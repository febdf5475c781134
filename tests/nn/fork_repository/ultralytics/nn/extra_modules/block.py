import math

import DCNv3
import torch
import torch.nn as nn
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule

from ultralytics.utils.torch_utils import TORCH_1_9, fuse_conv_and_bn, make_divisible

from ..modules.block import *
from ..modules.block import BasicBlock, BottleNeck, C2f, ConvNormLayer, get_activation
from ..modules.conv import Conv, DSConv, DWConv, RepConv, autopad
from .attention import *
from .missing_file import Lost
from .ops.edges import EdgeConv

__all__ = [
    "C2f_Edge",
    "C3_Strip",
    "CSP_Two",
    "TreeELAN",
    "RepNELAN",
    "BasicBlock_Edge",
    "BottleNeck_Edge",
    "BasicBlock_Sized",
    "BasicBlock_KAN",
    "BasicBlock_Own",
    "PlainBlock",
    "SPDown",
    "GhostStage",
    "WithClassAct",
    "PoolDown",
    "UpTo",
    "NeedsNorm",
    "NeedsDCN",
    "NeedsLost",
    "LateSplit",
    "Widths",
    "Taps",
    "GetIndexOutput",
    "Doubled",
    "FromCore",
    "ActByName",
    "VersionFlag",
]
NORM = build_norm_layer(dict(type="BN"), 8)


class Bottleneck_Edge(Bottleneck):
    def __init__(self, c1, c2, shortcut=True, g=1, k=(3, 3), e=0.5):
        super().__init__(c1, c2, shortcut, g, k, e)
        self.cv2 = EdgeConv(int(c2 * e), c2)


class C2f_Edge(C2f):
    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__(c1, c2, n, shortcut, g, e)
        self.m = nn.ModuleList(Bottleneck_Edge(self.c, self.c, shortcut, g, k=(3, 3), e=1.0) for _ in range(n))


class C3_Strip(C3):
    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, shortcut, g, e)
        c_ = int(c2 * e)
        self.m = nn.Sequential(*(StripGate(c_) for _ in range(n)))


class CSP_Two(nn.Module):
    def __init__(self, c1, c2, num_blocks=2, e=0.5):
        super().__init__()
        self.cv1 = Conv(c1, c2)
        self.m = nn.Sequential(*(DSConv(c2, c2) for _ in range(num_blocks)))

    def forward(self, x):
        return self.m(self.cv1(x))


class TreeELAN(nn.Module):
    def __init__(self, c1, c2, depth=1, scale=0.5):
        super().__init__()
        self.parts = nn.ModuleList(Conv(c1 if i == 0 else c2, c2, 3) for i in range(depth))

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


class RepNELAN(nn.Module):
    def __init__(self, c1, c2, c3, c4, c5=1):
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c3), nn.Sequential(*(Conv(c3 if i == 0 else c4, c4, 3) for i in range(c5)))
        self.cv3 = Conv(c3 + c4, c2)

    def forward(self, x):
        y = self.cv1(x)
        return self.cv3(torch.cat((y, self.cv2(y)), 1))


class BasicBlock_Edge(BasicBlock):
    def __init__(self, ch_in, ch_out, stride, shortcut, act="relu", variant="d"):
        super().__init__(ch_in, ch_out, stride, shortcut, act, variant)
        self.branch2b = EdgeConv(ch_out, ch_out)


class BottleNeck_Edge(BottleNeck):
    def __init__(self, ch_in, ch_out, stride, shortcut, act="relu", variant="d"):
        super().__init__(ch_in, ch_out, stride, shortcut, act, variant)
        self.branch2b = nn.Sequential(nn.MaxPool2d(2, 2) if stride == 2 else nn.Identity(), EdgeConv(ch_out, ch_out))


class BasicBlock_Sized(BasicBlock):
    def __init__(self, ch_in, ch_out, stride, shortcut, act="relu", input_resolution=None, sr_ratio=None, variant="d"):
        super().__init__(ch_in, ch_out, stride, shortcut, act, variant)
        self.table = nn.Parameter(torch.zeros(input_resolution * input_resolution // sr_ratio, 1))


class BasicBlock_KAN(BasicBlock):
    def __init__(self, ch_in, ch_out, stride, shortcut, act="relu", kan_name=None, variant="d"):
        super().__init__(ch_in, ch_out, stride, shortcut, act, variant)
        self.kan_name = kan_name


class BasicBlock_Own(nn.Module):
    expansion = 1

    def __init__(self, ch_in, ch_out, stride, shortcut, act="relu", variant="d"):
        super().__init__()
        self.branch = ConvNormLayer(ch_in, ch_out, 3, stride, act=act)
        self.shortcut = shortcut
        if not shortcut:
            self.short = ConvNormLayer(ch_in, ch_out, 1, stride)
        self.act = nn.Identity() if act is None else get_activation(act)

    def forward(self, x):
        short = x if self.shortcut else self.short(x)
        return self.act(self.branch(x) + short)


class PlainBlock(nn.Module):
    expansion = 2

    def __init__(self, ch_in, ch_out, s=1):
        super().__init__()
        self.conv = nn.Conv2d(ch_in, ch_out * 2, 3, s, 1)

    def forward(self, x):
        return self.conv(x)


class SPDown(nn.Module):
    def __init__(self, inc, ouc, dimension=1):
        super().__init__()
        self.conv = Conv(inc * 4, ouc, 3)

    def forward(self, x):
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        return self.conv(torch.cat(parts, 1))


class GhostStage(nn.Module):
    def __init__(self, c1, cm, c2, k=3, n=6, lightconv=False, shortcut=False, act=nn.ReLU()):
        super().__init__()
        self.m = nn.ModuleList(Conv(c1 if i == 0 else cm, cm, k, act=act) for i in range(n))
        self.out = Conv(cm, c2)

    def forward(self, x):
        for m in self.m:
            x = m(x)
        return self.out(x)


class WithClassAct(nn.Module):
    def __init__(self, c1, c2, act=nn.ReLU):
        super().__init__()
        self.conv, self.norm = Conv(c1, c2, act=act), ConvNormLayer(c2, c2, 3, 1, act=act)

    def forward(self, x):
        return self.norm(self.conv(x))


class ActByName(nn.Module):
    def __init__(self, c1, c2, act="relu"):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(c1, c2, 1), getattr(nn, act)() if act != "relu" else nn.ReLU())

    def forward(self, x):
        return self.conv(x)


class PoolDown(nn.Module):
    def forward(self, x):
        return nn.functional.pixel_unshuffle(x, 2)


class UpTo(nn.Module):
    def __init__(self, in_channels, scale=2, style="lp"):
        super().__init__()
        self.scale = scale
        self.offset = nn.Conv2d(in_channels, 2, 1)

    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=self.scale)


class NeedsNorm(BaseModule):
    def __init__(self, c1, c2):
        super().__init__()


class NeedsDCN(nn.Module):
    def __init__(self, c1, c2, k=1, s=1):
        super().__init__()
        self.conv = Conv(c1, c2, k)

    def forward(self, x):
        return DCNv3.apply(self.conv(x))


class NeedsLost(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.lost = Lost(c1, c2)


class LateSplit(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv = Conv(c1, c2[0])
        self.further = nn.ModuleList(Conv(a, b, 3, 2) for a, b in zip(c2, c2[1:]))

    def forward(self, x):
        outputs = [self.conv(x)]
        for further in self.further:
            outputs.append(further(outputs[-1]))
        return outputs


class Widths(nn.Module):
    def __init__(self, inc, ouc_list, k=1):
        super().__init__()
        self.convs = nn.ModuleList(Conv(inc, width, k) for width in ouc_list)

    def forward(self, x):
        return torch.cat([conv(x) for conv in self.convs], 1)


class Taps(nn.Module):
    def __init__(self, channel_list):
        super().__init__()
        self.mix = nn.ModuleList(nn.Conv2d(c, c, 1) for c in channel_list)

    def forward(self, xs):
        return [mix(x) for mix, x in zip(self.mix, xs)]


class GetIndexOutput(nn.Module):
    def __init__(self, index):
        super().__init__()
        self.index = index

    def forward(self, x):
        return x[self.index]


class Doubled(nn.Module):
    def __init__(self, nIn, nOut, dilation_rate=2):
        super().__init__()
        self.conv = Conv(nIn, nOut, 3, 2, d=dilation_rate)

    def forward(self, x):
        return self.conv(x)


class FromCore(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.block = OnlyInFork(c1, c2)

    def forward(self, x):
        return self.block(x)


class VersionFlag(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv2d(dim, make_divisible(dim, 8), 1) if TORCH_1_9 else None

    def forward(self, x):
        return self.conv(x)


class OwnNames(nn.Module):  # parts and attributes with the names that the network sets on each layer
    def __init__(self, c1, c2, n=1):
        super().__init__()
        self.f, self.repeats = nn.Conv2d(c1, c2, 1), n
        self.i = nn.Parameter(torch.ones(1))

    def forward(self, x):
        x = self.f(x)
        for _ in range(self.repeats):
            x = x + self.i
        return x


class C2f_Edge_Split(C2f_Edge):
    def __init__(self, c1, c2, n=1):
        super().__init__(c1, c2, n)
        self.forward = self.forward_split


class C2f_Edge_Gated(C2f_Edge):
    def __init__(self, c1, c2, n=1):
        super().__init__(c1, c2, n)
        self.forward = self.forward_gated

    def forward_gated(self, x):
        return x * C2f.forward(self, x).sigmoid()


class ViewGroups(nn.Module):
    def __init__(self, dim, groups=4):
        super().__init__()
        self.groups, self.conv = groups, Conv(dim // groups, dim // groups, 3)

    def forward(self, x):
        b, _, h, w = x.shape
        return self.fold(self.conv(x.view(b * self.groups, -1, h, w)), b)

    def fold(self, x, b):  # merges no branches
        return x.view(b, -1, *x.shape[2:])
