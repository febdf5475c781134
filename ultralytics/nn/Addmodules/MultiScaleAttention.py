"""Efficient multi-scale attention (EMA): a 1x1 and a 3x3 branch, each weighted by the mean of the other.

"Efficient Multi-Scale Attention Module with Cross-Spatial Learning", Ouyang, He, Zhang, Luo, Guo, Zhan, Huang,
ICASSP 2023, https://arxiv.org/abs/2305.13563. Not the moving average of weights.
"""

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_multiple, require_whole
from ultralytics.nn.registry import register


@register(plans.channel_preserving, overridable=True)
class EMA(nn.Module):
    """`[groups]`: the block of the paper; `groups` of D channels share all weights, 10 D^2 + 4 D parameters."""

    def __init__(self, channels: int, groups: int = 32):
        super().__init__()
        require_whole("EMA", groups=groups)
        require_multiple("EMA", groups, channels=channels)
        self.groups = groups
        depth = channels // groups
        self.strip = nn.Conv2d(depth, depth, 1)
        self.norm = nn.GroupNorm(depth, depth)
        self.local = nn.Conv2d(depth, depth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b * self.groups, c // self.groups, h, w)  # (B, C, H, W) -> (B * G, D, H, W)
        wide = self.norm(self._gated(x))  # branch of the strips, (B * G, D, H, W)
        local = self.local(x)  # branch of the 3x3 convolution, (B * G, D, H, W)
        gate = (self._crossed(wide, local) + self._crossed(local, wide)).sigmoid()  # (B * G, 1, H, W)
        return (x * gate).reshape(b, c, h, w)

    def _gated(self, x: Tensor) -> Tensor:
        """Apply gates along the height and the width, from one shared pointwise convolution."""
        height = x.shape[2]
        rows = x.mean(3, keepdim=True)  # (B * G, D, H, 1)
        columns = x.mean(2, keepdim=True).transpose(2, 3)  # (B * G, D, W, 1)
        strips = self.strip(torch.cat((rows, columns), 2)).sigmoid()  # (B * G, D, H + W, 1)
        return x * strips[:, :, :height] * strips[:, :, height:].transpose(2, 3)

    @staticmethod
    def _crossed(one: Tensor, other: Tensor) -> Tensor:
        """Weight the channels of `other` by the softmax of the channel means of `one`: (B * G, 1, H, W)."""
        shares = one.mean((2, 3), keepdim=True).softmax(1)  # (B * G, D, 1, 1)
        return (shares * other).sum(1, keepdim=True)
