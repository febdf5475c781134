"""CARAFE: an upsampler with a predicted reassembly kernel for each output position.

"CARAFE: Content-Aware ReAssembly of FEatures", Wang, Chen, Xu, Liu, Loy, Lin, ICCV 2019,
https://arxiv.org/abs/1905.02188.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_odd, require_whole
from ultralytics.nn.registry import register


@register(plans.channel_preserving, overridable=True)
class CARAFE(nn.Module):
    """`[scale, k_enc, k_up, compressed]`: Figure 2 of the paper; upsamples by `scale`, keeps the channels.

    A convolution of size `k_enc` on `compressed` channels predicts kernels of size `k_up` (k_enc + 2 in the paper).
    """

    def __init__(self, channels: int, scale: int = 2, k_enc: int = 3, k_up: int = 5, compressed: int = 64):
        super().__init__()
        require_whole("CARAFE", scale=scale, compressed=compressed)
        require_odd("CARAFE", k_enc=k_enc, k_up=k_up)
        self.scale, self.k_up = scale, k_up
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, scale**2 * k_up**2, k_enc, padding=k_enc // 2)
        # start as a mean over k_up x k_up
        nn.init.normal_(self.encode.weight, std=0.001)
        nn.init.zeros_(self.encode.bias)

    def kernels(self, x: Tensor) -> Tensor:
        """Predict the reassembly kernels (B, k_up^2, scale^2, H, W), normalized over k_up^2."""
        logits = self.encode(self.compress(x))  # (B, k_up^2 * scale^2, H, W)
        return logits.unflatten(1, (self.k_up**2, self.scale**2)).softmax(1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        weights = self.kernels(x).to(x.dtype).unsqueeze(1)  # (B, 1, k_up^2, scale^2, H, W)
        margin = self.k_up // 2
        x = F.pad(x, (margin, margin, margin, margin)).unsqueeze(2)  # (B, C, 1, H + k_up - 1, W + k_up - 1)
        # accumulate neighbor by neighbor: less memory than unfold
        y = x[..., :h, :w] * weights[:, :, 0]  # (B, C, scale^2, H, W)
        for i in range(1, self.k_up**2):
            top, left = divmod(i, self.k_up)
            y = torch.addcmul(y, x[..., top : top + h, left : left + w], weights[:, :, i])
        return F.pixel_shuffle(y.flatten(1, 2), self.scale)  # (B, C, scale * H, scale * W)
