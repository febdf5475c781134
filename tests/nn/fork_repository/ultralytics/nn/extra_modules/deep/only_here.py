from torch import nn

from ...modules.conv import Conv


class OnlyBelow(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv = Conv(c1, c2)

    def forward(self, x):
        return self.conv(x)
