"""Exponential moving average of a model's weights, as DETR-family detectors are evaluated with."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import nn


class ModelEMA:
    """Average of a model's floating-point state; integers (batch counters) are copied.

    The decay grows as `decay * (1 - exp(-updates / tau))`, so that the random initial weights are forgotten at once
    (official RT-DETR: decay 0.9999, tau 2000). Build it when the model is on its final device: the tensors are
    gathered once, which makes an update two fused passes over the weights. The average is without the modules that
    say `training_only = True`: nothing of them is averaged, validated or saved with it.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, tau: float = 2000.0, updates: int = 0) -> None:
        self.ema = without_training_parts(deepcopy(model)).eval().float().requires_grad_(False)
        self._model = model
        self.decay = decay
        self.tau = tau
        self.updates = updates
        self._averaged: list[torch.Tensor] = []
        self._sources: list[torch.Tensor] = []
        self._copied: list[tuple[torch.Tensor, torch.Tensor]] = []
        seen: set[int] = set()  # weights shared by two modules have two names, and must move once
        average = self.ema.state_dict()
        for name, source in model.state_dict().items():
            if name not in average:  # of a part that only training has
                continue
            if source.numel() and source.data_ptr() in seen:
                continue
            seen.add(source.data_ptr())
            if source.is_floating_point():
                self._averaged.append(average[name])
                self._sources.append(source)
            else:
                self._copied.append((average[name], source))

    def decay_at(self, updates: int) -> float:
        """Decay of the `updates`-th update, counting from 1."""
        return self.decay * (1 - math.exp(-updates / self.tau))

    @torch.no_grad()
    def update(self, model: nn.Module | None = None) -> bool:
        """Take in the model's present weights. Returns False, changing nothing, when some of them are not finite.

        `model`, where it is said, has to be the one whose average this is.
        """
        if model is not None and model is not self._model:
            raise ValueError("ModelEMA.update: got another model than the one it was made from")
        if not torch.stack(torch._foreach_norm(self._sources)).isfinite().all():
            return False
        self.updates += 1
        torch._foreach_lerp_(self._averaged, [s.float() for s in self._sources], 1 - self.decay_at(self.updates))
        for average, source in self._copied:
            average.copy_(source)
        return True


def without_training_parts(model: nn.Module) -> nn.Module:
    """The model, from which every module with `training_only = True` is removed."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if getattr(child, "training_only", False):
                delattr(module, name)
    return model
