"""Fast normalised fusion of BiFPN: a weighted mean of maps, with a learned weight for each map.

"EfficientDet: Scalable and Efficient Object Detection", Tan, Pang, Le, CVPR 2020, https://arxiv.org/abs/1911.09070.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError

EPSILON = 1e-4  # the paper's, Section 3.3


def weighted_sum(ctx: RowContext) -> LayerSpec:
    """`[]`: a list of maps of equal channels and equal size, for a constructor (number of maps)."""
    ctx.require_once()
    if len(ctx.inputs) < 2 or len(set(ctx.inputs)) > 1:
        raise ModelConfigError(
            f"its maps have {list(ctx.inputs)} channels, expected a list of two or more with equal "
            f"channels; put a Conv before the ones that differ"
        )
    if len(set(ctx.sizes)) > 1:
        raise ModelConfigError(
            f"its maps have sizes {list(ctx.sizes)}, expected equal sizes; put a layer that "
            f"changes the size before the ones that differ"
        )
    return LayerSpec((len(ctx.inputs),), ctx.c1)


@register(weighted_sum, overridable=True)
class WeightedAdd(nn.Module):
    """`[]`: sum of w_i x_i over (epsilon + sum of w_i), w_i = relu of the parameters; all start at 1, a plain mean."""

    def __init__(self, maps: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(maps))

    def shares(self) -> Tensor:
        """(maps,) what each map counts for, 0 or more; they sum to one up to `EPSILON`."""
        weights = self.weights.relu()
        return weights / (weights.sum() + EPSILON)

    def forward(self, maps: list[Tensor]) -> Tensor:
        shares = self.shares()
        y = shares[0] * maps[0]  # (B, C, H, W)
        for i, feature in enumerate(maps[1:], start=1):
            y = y + shares[i] * feature
        return y
