"""Activations behind normalisations, which keep no map of their own for the backward pass.

The gradient of SiLU needs its input. That is a normalised map, or a sum of them, and what a normalisation reads is kept
anyway: for the gradient of the normalisation. So the input is computed from it once more when its time comes, which
takes no convolution, as in "Memory-Efficient Implementation of DenseNets", https://arxiv.org/abs/1707.06990.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

SMALLEST = 1 << 17  # values of a map; keeping smaller ones is cheaper than the call


def activate(act: nn.Module, *branches: tuple[nn.Module, Tensor]) -> Tensor:
    """`act` of the sum of norm(x) over all branches (norm, x), x (B, C, H, W) each."""
    total = sum_of([norm(x) for norm, x in branches])
    if not recomputable(act, branches):
        return act(total)
    again = [(norm, norm.training or norm.running_mean is None, x) for norm, x in branches]
    with saved_tensors_hooks(lambda total: again, normalised_sum):  # SiLU keeps its input alone
        return act(total)


def recomputable(act: nn.Module, branches: tuple[tuple[nn.Module, Tensor], ...]) -> bool:
    """Whether there is a backward pass, in which these normalisations give the same sum again."""
    return (
        type(act) is nn.SiLU
        and not act.inplace
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()  # a compiler makes this choice itself
        and branches[0][1].numel() >= SMALLEST
        and all(type(norm) is nn.BatchNorm2d for norm, _ in branches)
    )


def normalised_sum(branches: list[tuple[nn.BatchNorm2d, bool, Tensor]]) -> Tensor:
    """The sum once more; running statistics stay as they are. True: normalised by the statistics of x itself."""
    parts = []
    for norm, own, x in branches:
        statistics = (None, None) if own else (norm.running_mean, norm.running_var)
        parts.append(F.batch_norm(x, *statistics, norm.weight, norm.bias, own, eps=norm.eps))
    return sum_of(parts)


def sum_of(parts: list[Tensor]) -> Tensor:
    """Their sum, added up in order, without a zero in front."""
    return reduce(torch.add, parts)
