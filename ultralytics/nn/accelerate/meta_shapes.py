"""Running networks on the meta device, where tensors have shapes and no values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode


def copy_on_meta(layer: nn.Module) -> nn.Module:
    """A copy of `layer` on the meta device, made without a copy of its weights."""
    there = {
        id(tensor): nn.Parameter(tensor.detach().to("meta"), requires_grad=tensor.requires_grad)
        for tensor in layer.parameters()
        if not is_lazy(tensor)
    }
    there |= {id(tensor): tensor.to("meta") for tensor in layer.buffers() if not is_lazy(tensor)}
    return copy.deepcopy(layer, there).to("meta")  # deepcopy takes from there what it would copy


class ShapesAlone(TorchFunctionMode):
    """While it is active, batch normalisation and sampling on the meta device only say which shape they give.

    There torch takes each of them apart into some hundred operations, which is half of the time of a model. Arguments
    that do not fit together go to the function itself, for its error.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict | None = None
    ) -> Any:
        if function in (F.batch_norm, F.grid_sample) and len(args) > 1 and args[0].is_meta:
            x, other = args[:2]
            if function is F.batch_norm and x.ndim > 1 and other is not None and other.shape == x.shape[1:2]:
                return torch.empty_like(x)
            if function is F.grid_sample and x.ndim == other.ndim == 4 and other.shape[::3] == (len(x), 2):
                return x.new_empty(*x.shape[:2], *other.shape[1:3])
        return function(*args, **(kwargs or {}))
