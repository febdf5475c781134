import torch
import torch.nn as nn
from einops import rearrange
from timm.models.layers import DropPath

from ..backbone.window import WindowMix
from ..modules.conv import Conv, autopad
from ..modules.transformer import AIFI, TransformerEncoderLayer

__all__ = ["StripGate", "AIFI_Strip", "TransformerEncoderLayer_Window", "GroupGate", "LPosition", "EinGate", "ZeroGate"]


class StripGate(nn.Module):
    def __init__(self, dim, k=7):
        super().__init__()
        self.row = nn.Conv2d(dim, dim, (1, k), padding=(0, k // 2), groups=dim)
        self.column = nn.Conv2d(dim, dim, (k, 1), padding=(k // 2, 0), groups=dim)

    def forward(self, x):
        return x * self.column(self.row(x)).sigmoid()


class GroupGate(nn.Module):
    def __init__(self, channels, factor=8):
        super().__init__()
        self.norm = nn.GroupNorm(factor, channels)

    def forward(self, x):
        return x * self.norm(x).sigmoid()


class ZeroGate(nn.Module):
    def __init__(self, e=1e-4):
        super().__init__()
        self.e = e

    def forward(self, x):
        return x * (x.mean((2, 3), keepdim=True) + self.e).sigmoid()


class EinGate(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.pattern = rearrange(torch.zeros(1, dim), "b c -> c b")

    def forward(self, x):
        return x


class AIFI_Strip(TransformerEncoderLayer):
    def __init__(self, c1, cm=2048, num_heads=8, dropout=0, act=nn.GELU(), normalize_before=False):
        super().__init__(c1, cm, num_heads, dropout, act, normalize_before)
        self.gate = StripGate(c1)

    def forward(self, x):
        c, h, w = x.shape[1:]
        x = super().forward(self.gate(x).flatten(2).permute(0, 2, 1))
        return x.permute(0, 2, 1).view([-1, c, h, w]).contiguous()


class TransformerEncoderLayer_Window(nn.Module):
    def __init__(self, c1, cm=2048, num_heads=8, dropout=0, act=nn.GELU(), normalize_before=False):
        super().__init__()
        self.mix = WindowMix(c1, num_heads)
        self.fc1, self.fc2 = nn.Conv2d(c1, cm, 1), nn.Conv2d(cm, c1, 1)
        self.drop = DropPath(0.1)
        self.act = act

    def forward(self, src, src_mask=None, pos=None):
        src = src + self.drop(self.mix(src))
        return src + self.fc2(self.act(self.fc1(src)))


class LPosition(AIFI):
    def __init__(self, c1, cm=2048, num_heads=8, fmap_size=20 * 20):
        super().__init__(c1, cm, num_heads)
        self.position = nn.Embedding(fmap_size, c1)
