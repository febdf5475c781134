"""Watches a run: which parameters are read, and which normalisations see a single value per channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

# What counters of operations ask of a parameter without reading its values.
SIZE_QUERIES = {Tensor.numel, Tensor.nelement, Tensor.size, Tensor.dim, Tensor.shape.__get__, Tensor.ndim.__get__}


class ParameterUse(TorchFunctionMode):
    """While it is active, notes the parameters of `layers` whose values any function of torch is given.

    Args:
        layers: the layers to watch, on the meta device.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = list(layers)
        self._read: set[int] = set()
        self._single: dict[int, list[str]] = {}

    def __enter__(self) -> ParameterUse:
        self._handles = [
            module.register_forward_pre_hook(self._note_single(position, name))
            for position, layer in enumerate(self.layers)
            for name, module in layer.named_modules()
            if isinstance(module, _BatchNorm)
        ]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict | None = None
    ) -> Any:
        if function not in SIZE_QUERIES:
            self._read.update(id(p) for p in _parameters((args, *(kwargs or {}).values())))
        return function(*args, **(kwargs or {}))

    def unread(self, position: int) -> list[str]:
        """Names of the parameters of a layer that were given to no function of torch.

        Compiled code (torch.jit) reads its parameters unseen, so a layer that holds some has none.
        """
        layer = self.layers[position]
        if any(isinstance(module, torch.jit.ScriptModule) for module in layer.modules()):
            return []
        return [name for name, p in layer.named_parameters() if id(p) not in self._read]

    def single_valued(self, position: int) -> list[str]:
        """Names of the batch normalisations of a layer whose input had one position per image."""
        return self._single.get(position, [])

    def _note_single(self, position: int, name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if isinstance(inputs[0], Tensor) and inputs[0].shape[2:].numel() == 1 and inputs[0].shape[0] == 1:
                self._single.setdefault(position, []).append(name)

        return note


def _parameters(value: Any) -> Iterator[nn.Parameter]:
    """Parameters among arguments, nested sequences flattened."""
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parameters(part)
