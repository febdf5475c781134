"""Batches of one image in training, where BatchNorm of torch fails twice.

- One value per channel (after global pooling, or P5 at 32 px) has neither a variance nor a gradient: torch refuses it.
- A gradient whose layout in memory differs from the map's (as it comes back from a transposition to tokens) gives wrong
  gradients without a word, in torch 2.14.1 on the CPU: for one image the two layouts look alike to it.

Both occur with batch=1, with one image in all, or when one is left over for the last batch of an epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def accept_batches_of_one(model: nn.Module) -> int:
    """Let the BatchNorm layers of `model` learn from batches of one image; returns how many there are.

    One value per channel is normalised by the running statistics. All other batches are normalised by their own as
    before. Layers without running statistics still refuse, and SyncBatchNorm is left alone, as it counts the values of
    all processes. Calling it twice changes nothing.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and not isinstance(m, nn.SyncBatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    for norm in norms:
        if _use_running_statistics not in norm._forward_pre_hooks.values():
            norm.register_forward_pre_hook(_use_running_statistics)
            norm.register_forward_hook(_train_again, always_call=True)
            norm.register_forward_hook(_align_gradient)
    return len(norms)


def _use_running_statistics(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
    """Before the forward: a layer in training that gets (1, C), (1, C, 1) or (1, C, 1, 1) is put in eval mode."""
    if norm.training and inputs[0].numel() == norm.num_features:
        norm.training = False
        norm._single_value = True


def _train_again(norm: _BatchNorm, inputs: tuple[Tensor, ...], output: Tensor | None) -> None:
    """After the forward, even one that raised."""
    if norm.__dict__.pop("_single_value", False):
        norm.training = True


def _align_gradient(norm: _BatchNorm, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Have the gradient of a single map come back in the map's own layout."""
    if output.shape[0] == 1 and output.requires_grad and output.device.type == "cpu":
        strides = output.stride()
        output.register_hook(lambda grad: torch.empty_strided(grad.shape, strides, dtype=grad.dtype).copy_(grad))
