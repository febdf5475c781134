"""Fast normalized fusion of BiFPN: a weighted mean of maps with one learned weight per map.

"EfficientDet: Scalable and Efficient Object Detection", Tan, Pang, Le, CVPR 2020, https://arxiv.org/abs/1911.09070.
"""

import torch
from torch import Tensor, nn

from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError

EPSILON = 1e-4  # Section 3.3


def weighted_sum(ctx: RowContext) -> LayerSpec:
    """Plan `[]` for a constructor (number of maps); all maps need equal channels and sizes."""
    ctx.require_once()
    if len(ctx.inputs) < 2 or len(set(ctx.inputs)) > 1 or len(set(ctx.sizes)) > 1:
        raise ModelConfigError(
            f"its maps have {list(ctx.inputs)} channels and sizes {list(ctx.sizes)}; expected two or more, all equal"
        )
    return LayerSpec((len(ctx.inputs),), ctx.c1)


@register(weighted_sum, overridable=True)
class WeightedAdd(nn.Module):
    """`[]`: sum of w_i x_i / (epsilon + sum of w_i) with w_i = relu of the parameters, which start at 1."""

    def __init__(self, maps: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(maps))

    def shares(self) -> Tensor:
        """Compute the normalized weights (maps,)."""
        weights = self.weights.relu()
        return weights / (weights.sum() + EPSILON)

    def forward(self, maps: list[Tensor]) -> Tensor:
        shares = self.shares()
        y = shares[0] * maps[0]  # (B, C, H, W)
        for i, feature in enumerate(maps[1:], start=1):
            y = y + shares[i] * feature
        return y
