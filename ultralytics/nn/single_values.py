"""Batch normalisation of a batch with one value per channel, which has neither a variance nor a gradient.

It occurs in training when one image is left over for the last batch of an epoch (or batch=1, or one image in all)
and a map is 1 x 1: after global pooling, or P5 at 32 px. torch refuses it and the run would end there.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def accept_single_values(model: nn.Module) -> int:
    """Let the BatchNorm layers of `model` use their running statistics for such a batch; returns how many there are.

    All other batches are normalised by their own statistics as before. Layers without running statistics still refuse,
    and SyncBatchNorm is left alone, as it counts the values of all processes. Calling it twice changes nothing.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and not isinstance(m, nn.SyncBatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    for norm in norms:
        if _use_running_statistics not in norm._forward_pre_hooks.values():
            norm.register_forward_pre_hook(_use_running_statistics)
            norm.register_forward_hook(_train_again, always_call=True)
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
