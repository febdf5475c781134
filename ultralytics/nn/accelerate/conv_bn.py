"""Rewrite of networks of other libraries: batch normalisations are folded into the convolutions before them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.modules.conv import fold_batchnorm


class FoldNormalisations:
    """Folds each normalisation that alone reads the output of a convolution, whatever the modules around them.

    Which does is seen in a run on the meta device. Parts that fold themselves have done so before.
    """

    def __call__(self, graph: LayerGraph) -> None:
        for layer in graph.layers:
            if any(isinstance(module, nn.BatchNorm2d) for module in layer.modules()):
                for conv_name, norm_name in _pairs(layer, graph.example_input(layer)):
                    _fold(layer, conv_name, norm_name)


def _pairs(layer: nn.Module, inputs: tuple[Any, ...]) -> list[tuple[str, str]]:
    """Names of convolutions and of the normalisations that alone read their outputs."""
    twin = copy.deepcopy(layer).to("meta").eval()
    uses = TensorUses()
    calls: Counter[str] = Counter()
    made_by: dict[int, str] = {}
    found: list[tuple[str, str, Tensor]] = []

    def watch(name: str, module: nn.Module) -> None:
        def after_conv(_: nn.Module, __: Any, output: Tensor) -> None:
            calls[name] += 1
            made_by[id(output)] = name
            uses.alive.append(output)

        def before_norm(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            if id(args[0]) in made_by:
                found.append((made_by[id(args[0])], name, args[0]))

        if type(module) is nn.Conv2d:
            module.register_forward_hook(after_conv)
        elif isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(before_norm)

    for name, module in twin.named_modules():
        watch(name, module)
    with torch.no_grad(), uses:
        twin(*inputs)
    return [
        (conv, norm) for conv, norm, output in found if calls[conv] == calls[norm] == 1 and uses.count[id(output)] == 1
    ]


class TensorUses(TorchFunctionMode):
    """Counts for each tensor the operations that compute another one from it."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()  # by id
        self.alive: list[Tensor] = []  # so that no id is given twice

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(True for _ in _tensors(result)):  # not `x.dim()` and the like
            used = list(_tensors((args, kwargs or {})))
            self.alive += used
            self.count.update(map(id, used))
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


@torch.no_grad()
def _fold(layer: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = layer.get_submodule(conv_name), layer.get_submodule(norm_name)
    rest = _rest(norm)
    if rest is None or norm.weight is None or norm.running_var is None or norm.training:
        return
    folded = fold_batchnorm(conv, norm)
    conv.weight, conv.bias = folded.weight, folded.bias
    parent, _, name = norm_name.rpartition(".")
    setattr(layer.get_submodule(parent), name, rest)


def _rest(norm: nn.BatchNorm2d) -> nn.Module | None:
    """What a normalisation does beside normalising: nothing, or the activation that timm puts into it; else None."""
    if type(norm).forward is nn.BatchNorm2d.forward:
        return nn.Identity()
    parts = [part for part in norm.children() if not isinstance(part, nn.Identity)]
    rest = nn.Sequential(*parts)
    x = torch.randn(2, norm.num_features, 3, 3, dtype=norm.running_var.dtype, device=norm.running_var.device)
    return rest if torch.allclose(norm(x.clone()), rest(nn.BatchNorm2d.forward(norm, x)), atol=1e-5) else None
