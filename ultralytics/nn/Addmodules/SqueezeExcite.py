"""Squeeze-and-excitation: one gate for each channel, from the mean of the whole map.

"Squeeze-and-Excitation Networks", Hu, Shen, Albanie, Sun, Wu, CVPR 2018, https://arxiv.org/abs/1709.01507.
"""

from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_whole
from ultralytics.nn.registry import register


@register(plans.channel_preserving, overridable=True)
class SEAttention(nn.Module):
    """`[reduction]`: Figure 1 of the paper, 2 C^2 / reduction parameters; gates start near 0.5."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        require_whole("SEAttention", reduction=reduction)
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)  # (B, C, H, W) -> (B, C, 1, 1)
        gate = self.excite(self.act(self.squeeze(mean))).sigmoid()  # (B, C, 1, 1)
        return x * gate
