"""Large kernel attention: a gate from a decomposed 21x21 convolution.

"Visual Attention Network", Guo, Lu, Liu, Cheng, Hu, Computational Visual Media 2023, https://arxiv.org/abs/2202.09741.
"""

from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_odd, require_whole
from ultralytics.nn.registry import register


@register(plans.channel_preserving, overridable=True)
class LKA(nn.Module):
    """`[k, d]`: attention with kernel size `k` and dilation `d`; the gate has no sigmoid."""

    def __init__(self, channels: int, k: int = 21, d: int = 3):
        super().__init__()
        require_whole("LKA", k=k, d=d)
        kernel = -(-k // d)
        require_odd("LKA", **{"ceil(k / d)": kernel})
        self.local = nn.Conv2d(channels, channels, 2 * d - 1, padding=d - 1, groups=channels)
        self.long = nn.Conv2d(channels, channels, kernel, padding=kernel // 2 * d, groups=channels, dilation=d)
        self.point = nn.Conv2d(channels, channels, 1)
        # start as an identity: the paper has a residual around the block, which is missing here
        nn.init.normal_(self.point.weight, std=0.01)
        nn.init.ones_(self.point.bias)

    def forward(self, x: Tensor) -> Tensor:
        attention = self.point(self.long(self.local(x)))  # (B, C, H, W)
        return x * attention
