"""Spatial pyramid pooling: maxima over windows of several sizes, side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.chain import each_output
from ultralytics.nn.modules.checks import require_odd
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import register


@register(plans.conv)
class SPP(nn.Module):
    """Windows of the sizes `k`, which are odd (SPPNet, arXiv:1406.4729)."""

    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__()
        for side in k:
            require_odd("SPP", k=side)
        hidden = c1 // 2
        self.cv1, self.cv2 = Conv(c1, hidden, 1, 1), Conv(hidden * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(side, stride=1, padding=side // 2) for side in k)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)  # (B, c1, H, W) -> (B, c1 / 2, H, W)
        return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


@register(plans.conv)
class SPPF(nn.Module):
    """SPP with windows of growing size as `n` poolings of odd size `k` in a row.

    Its first convolution has an activation, as in the models YOLOv5 to YOLO12; with `shortcut` (YOLO26) it is linear,
    and the input is added where c1 is c2.
    """

    n, add = 3, False  # pickles of older releases lack them

    def __init__(self, c1, c2, k=5, n=3, shortcut=False):
        super().__init__()
        require_odd("SPPF", k=k)
        hidden = c1 // 2
        self.cv1, self.cv2 = Conv(c1, hidden, 1, 1, act=not shortcut), Conv(hidden * (n + 1), c2, 1, 1)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)
        self.n, self.add = n, shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        pooled = each_output(self.cv1(x), [self.m] * self.n)  # (n + 1) x (B, c1 / 2, H, W)
        y = self.cv2(torch.cat(pooled, 1))  # (B, c2, H, W)
        return x + y if self.add else y


@register(plans.conv)
class SPPELAN(nn.Module):
    """Three poolings of odd size `k` in a row on c3 channels, aggregated (YOLOv9, arXiv:2402.13616)."""

    def __init__(self, c1, c2, c3, k=5):
        super().__init__()
        require_odd("SPPELAN", k=k)
        self.c = c3
        self.cv1 = Conv(c1, c3, 1, 1)
        self.cv2, self.cv3, self.cv4 = (nn.MaxPool2d(k, stride=1, padding=k // 2) for _ in range(3))
        self.cv5 = Conv(4 * c3, c2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = each_output(self.cv1(x), (self.cv2, self.cv3, self.cv4))  # 4 x (B, c3, H, W)
        return self.cv5(torch.cat(outputs, 1))
