"""Batch norm and SiLU that keep one map less for the backward pass.

The gradient of SiLU needs its input, a batch-normalized map or a sum of them. The input of the batch norm is kept
anyway, so the input of SiLU is computed from it once more in the backward pass, without any convolution. See
"Memory-Efficient Implementation of DenseNets", https://arxiv.org/abs/1707.06990.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ultralytics.nn.modules.conv import Conv, RepConv

SMALLEST = 1 << 17  # values of a map; keeping smaller ones is cheaper than the call
LABEL = "SiLU recomputed"
Statistics = tuple[Tensor, Tensor]


def activate(act: nn.Module, *branches: tuple[nn.Module, Tensor]) -> Tensor:
    """Compute `act` of the sum of norm(x) over all branches (norm, x), x (B, C, H, W) each."""
    maps = [norm(x) for norm, x in branches]
    total = reduce(torch.add, maps)
    # a compiler makes this choice itself
    if total.numel() < SMALLEST or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return act(total)
    again = [(norm, x, *statistics_of(norm, y)) for (norm, x), y in zip(branches, maps, strict=True)]
    with saved_tensors_hooks(lambda _: again, normalized_sum):  # SiLU saves its input and nothing else
        return act(total)


def statistics_of(norm: nn.BatchNorm2d, y: Tensor) -> tuple[bool, Statistics | None]:
    """Return whether `y` is normalized by statistics of the images, and mean and 1 / deviation if autograd has them."""
    own, node = norm.training or norm.running_mean is None, y.grad_fn
    if not own or not norm.affine or y.dtype != norm.weight.dtype or not hasattr(node, "_saved_result2"):
        return own, None
    return own, (node._saved_result1, node._saved_result2)


def normalized_sum(branches: list[tuple[nn.BatchNorm2d, Tensor, bool, Statistics | None]]) -> Tensor:
    """Compute the sum once more without touching running statistics."""
    parts = []
    for norm, x, own, statistics in branches:
        if statistics:  # one pass over x
            scale = norm.weight * statistics[1]
            offset = norm.bias - statistics[0] * scale
            parts.append(torch.addcmul(offset.view(-1, 1, 1), x, scale.view(-1, 1, 1)))
            continue
        running = (None, None) if own else (norm.running_mean, norm.running_var)
        parts.append(F.batch_norm(x, *running, norm.weight, norm.bias, own, eps=norm.eps))
    return reduce(torch.add, parts)


def can_recompute(act: nn.Module, *norms: nn.Module | None) -> bool:
    """Check for a SiLU that keeps its input, after plain batch norms."""
    return type(act) is nn.SiLU and not act.inplace and all(type(norm) is nn.BatchNorm2d for norm in norms)


class RecomputedConv(Conv):
    plain, label = Conv, LABEL

    @staticmethod
    def applies(module: Conv) -> bool:
        """Check for SiLU after a plain batch norm."""
        return can_recompute(module.act, module.bn)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.act, (self.bn, self.conv(x)))


class ChannelsLastConv(RecomputedConv):
    """First layer of a network on the CPU: the maps of all layers after it have channels-last memory format.

    Batch norm, max-pooling and the gradients of convolutions are faster in it.
    """

    label = "channels-last input"

    @staticmethod
    def applies(module: Conv) -> bool:
        """Check for the first layer of a model file."""
        return getattr(module, "i", None) == 0 and RecomputedConv.applies(module)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous(memory_format=torch.channels_last) if x.is_cpu else x)


class RecomputedRepConv(RepConv):
    plain, label = RepConv, LABEL

    @staticmethod
    def applies(module: RepConv) -> bool:
        """Check for SiLU after plain batch norms in all branches."""
        return can_recompute(module.act, module.conv1.bn, module.conv2.bn)

    def forward(self, x: Tensor) -> Tensor:
        branches = [(branch.bn, branch.conv(x)) for branch in (self.conv1, self.conv2)]
        if self.bn is not None:
            branches.append((self.bn, x))
        return activate(self.act, *branches)
