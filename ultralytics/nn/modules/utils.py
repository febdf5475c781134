"""Helpers that module files of forks import."""

import copy
import math
from collections.abc import Sequence

from torch import Tensor, nn

from ultralytics.nn.modules.deformable import deformable_sampling, inverse_sigmoid

__all__ = [
    "_get_clones", "bias_init_with_prob", "inverse_sigmoid", "linear_init", "linear_init_",
    "multi_scale_deformable_attn_pytorch",
]  # fmt: skip


def _get_clones(module: nn.Module, n: int) -> nn.ModuleList:
    return nn.ModuleList(copy.deepcopy(module) for _ in range(n))


def bias_init_with_prob(prior_prob: float = 0.01) -> float:
    """Return the logit of a probability, as bias of a classification layer."""
    return -math.log((1 - prior_prob) / prior_prob)


def linear_init(module: nn.Linear) -> None:
    """Initialize weight and bias uniformly within 1 / sqrt(outputs)."""
    bound = 1 / math.sqrt(module.weight.shape[0])
    for parameter in filter(lambda parameter: parameter is not None, (module.weight, module.bias)):
        nn.init.uniform_(parameter, -bound, bound)


def multi_scale_deformable_attn_pytorch(
    value: Tensor, value_spatial_shapes: Sequence[Sequence[int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Compute `deformable_sampling` of value (B, positions of all levels, heads, channels) and (h, w) of each level."""
    columns = value.permute(0, 2, 3, 1).flatten(0, 1)  # (B * heads, channels, positions)
    levels = columns.split([int(h) * int(w) for h, w in value_spatial_shapes], 2)
    maps = [level.unflatten(2, (int(h), int(w))) for level, (h, w) in zip(levels, value_spatial_shapes, strict=True)]
    return deformable_sampling(maps, sampling_locations, attention_weights)


linear_init_ = linear_init  # name of the first releases
