from torch import nn

from ..extra_modules.ops.edges import EdgeConv


class WindowMix(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 7, padding=3, groups=heads)

    def forward(self, x):
        return self.conv(x)
