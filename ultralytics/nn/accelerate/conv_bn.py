"""Fusing: batch norms are folded into the convolutions before them, and the branches of RepConv are merged.

Our modules do so in their method `fold()`. In networks of other libraries a run on the meta device finds each batch
norm that is the only reader of a convolution.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.modules.conv import fold_batchnorm


def fuse(network: nn.Module) -> None:
    """Fold what can be folded, in place; the network cannot be trained afterwards."""
    for module in list(network.modules()):
        if inspect.isroutine(getattr(type(module), "fold", None)):  # some modules keep an nn.Fold under this name
            module.fold()
    graph = LayerGraph(network)
    for layer in graph.layers:
        if any(isinstance(module, nn.BatchNorm2d) for module in layer.modules()):
            for conv_name, norm_name in find_pairs(layer, graph.example_input(layer)):
                fold_pair(layer, conv_name, norm_name)


def find_pairs(layer: nn.Module, inputs: tuple[Any, ...]) -> list[tuple[str, str]]:
    """Find convolutions whose output only a batch norm reads; return the names of both."""
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
    """Count for each tensor the operations that compute another tensor from it."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()  # by id
        self.alive: list[Tensor] = []  # so that no id is used twice

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
def fold_pair(layer: nn.Module, conv_name: str, norm_name: str) -> None:
    """Fold a batch norm of `layer` into a convolution and leave its activation, if it has one, in its place."""
    conv, norm = layer.get_submodule(conv_name), layer.get_submodule(norm_name)
    if norm.weight is None or norm.running_var is None or norm.training:
        return
    if type(norm).forward is nn.BatchNorm2d.forward:
        rest = nn.Identity()
    else:  # timm's has an activation
        rest = nn.Sequential(*(part for part in norm.children() if not isinstance(part, nn.Identity)))
        x = torch.randn(2, norm.num_features, 3, 3, dtype=norm.running_var.dtype, device=norm.running_var.device)
        if not torch.allclose(norm(x.clone()), rest(nn.BatchNorm2d.forward(norm, x)), atol=1e-5):
            return
    folded = fold_batchnorm(conv, norm)
    conv.weight, conv.bias = folded.weight, folded.bias
    parent, _, name = norm_name.rpartition(".")
    setattr(layer.get_submodule(parent), name, rest)
