import torch
from torch import nn

__all__ = ["threenet_t", "fournet_s", "fivenet"]


class StageNet(nn.Module):
    def __init__(self, widths, factor=1.0):
        super().__init__()
        widths = [int(width * factor) for width in widths]
        self.stem = nn.Conv2d(3, widths[0], 4, 2 ** (6 - len(widths)) // 2, 1 if len(widths) == 5 else 0)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b)) for a, b in zip(widths, widths[1:])
        )
        self.channel = [i.size(1) for i in self.forward(torch.randn(1, 3, 640, 640))]

    def forward(self, x):
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


def threenet_t(pretrained=False, factor=1.0):
    return StageNet([16, 24, 32], factor)


def fournet_s(factor=1.0):
    return StageNet([8, 16, 24, 32], factor)


def fivenet(factor=1.0):
    return StageNet([8, 8, 16, 24, 32], factor)
