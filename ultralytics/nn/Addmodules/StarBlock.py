"""Star operation: two linear maps of the same features, multiplied element by element.

"Rewrite the Stars", Ma, Dai, Bai, Wang, Fu, CVPR 2024, https://arxiv.org/abs/2403.19967.
"""

from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_whole
from ultralytics.nn.modules.block import RepC3
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import register

KERNEL = 7  # both depthwise convolutions


@register(plans.channel_preserving, overridable=True)
class StarBlock(nn.Module):
    """`[expansion]`: the block of StarNet, without its stochastic depth."""

    def __init__(self, channels: int, expansion: int = 4):
        super().__init__()
        require_whole("StarBlock", expansion=expansion)
        hidden = expansion * channels
        self.dw1 = Conv(channels, channels, KERNEL, g=channels, act=False)
        self.f1 = nn.Conv2d(channels, hidden, 1)
        self.f2 = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU6()
        self.g = Conv(hidden, channels, 1, act=False)
        self.dw2 = nn.Conv2d(channels, channels, KERNEL, padding=KERNEL // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dw1(x)  # (B, C, H, W)
        star = self.act(self.f1(y)) * self.f2(y)  # (B, expansion * C, H, W)
        return x + self.dw2(self.g(star))  # (B, C, H, W)


@register(plans.csp, overridable=True)
class StarC3(RepC3):
    """`[c2, e, expansion]`: RT-DETR's fusion block (`RepC3`) with `n` star blocks (not in the paper)."""

    def __init__(self, c1: int, c2: int, n: int = 3, e: float = 0.5, expansion: int = 4):
        super().__init__(c1, c2, n, e, inner=lambda hidden: StarBlock(hidden, expansion))
