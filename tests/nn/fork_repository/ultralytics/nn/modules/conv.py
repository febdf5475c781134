from torch import nn


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2)

    def forward(self, x):
        return self.conv(x)


class DSConv(nn.Module):
    def __init__(self, c1, c2, k=3):
        super().__init__()
        self.dw, self.pw = nn.Conv2d(c1, c1, k, 1, k // 2, groups=c1), Conv(c1, c2)

    def forward(self, x):
        return self.pw(self.dw(x))
