"""Fusing: branches of RepConv are merged, and batch norms are folded into the convolutions before them.

A module merges its branches in a method `fold()`. Batch norms that are the only reader of a convolution are found by a
run, in any network.
"""

import copy
import inspect
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.modules.conv import Conv
from ultralytics.utils.flops import flatten_tensors
from ultralytics.utils.torch_utils import fuse_conv_and_bn


@torch.no_grad()
@torch.random.fork_rng(devices=[])  # the random state is left as it is
def fuse(network: nn.Module) -> None:
    """Fold what can be folded, in place and in eval mode; the network cannot be trained afterwards."""
    graph = LayerGraph(network.eval())
    for layer in graph.layers:
        for images, part in ((0, 1), (1, 4), (1, 1)):  # nothing is computed; small maps, as attention needs an image
            with suppress(Exception):  # whatever it is, the layer needs more
                layer(*graph.example_input(layer, images, part))
                break
        fuse_layer(layer, graph.example_input(layer, images, part))  # some heads write to the list of maps


@torch.no_grad()
def fuse_layer(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Call `fold()` of all modules, fold batch norms and compute activations in place; `inputs` are for a test run."""
    for module in list(layer.modules()):
        fold = getattr(type(module), "fold", None)  # some modules have an nn.Fold or a method for maps of this name
        if inspect.isroutine(fold) and len(inspect.signature(fold).parameters) == 1:
            module.fold()
    for names in find_pairs(layer, inputs):
        fold_pair(layer, *names)
    for module in layer.modules():
        if type(module).forward is Conv.forward and getattr(module.act, "inplace", None) is False:
            module.act = copy.copy(module.act)  # it may be shared with other layers
            module.act.inplace = True


def find_pairs(layer: nn.Module, inputs: tuple[Any, ...]) -> list[tuple[str, str]]:
    """Find convolutions whose output only a batch norm reads; return the names of both."""
    uses = TensorUses()
    calls: Counter[str] = Counter()
    made_by: dict[int, str] = {}
    read_by: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] += 1
            if isinstance(module, nn.BatchNorm2d):
                read_by[name] = inputs[0]
            else:
                made_by[id(output)] = name

        return hook

    with ExitStack() as hooks, uses:
        for name, module in layer.named_modules():
            if type(module) in (nn.Conv2d, nn.ConvTranspose2d) or isinstance(module, nn.BatchNorm2d):
                hooks.enter_context(module.register_forward_hook(watch(name)))
        layer(*inputs)
    pairs = [(made_by.get(id(x)), norm, uses.count[id(x)]) for norm, x in read_by.items()]
    return [(conv, norm) for conv, norm, count in pairs if conv and calls[conv] == calls[norm] == count == 1]


class TensorUses(TorchFunctionMode):
    """Count for each tensor, by id, the operations that compute another tensor from it."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self.alive: list[Any] = []  # so that no id is used twice

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if flatten_tensors(result):  # not `x.dim()` and the like
            used = flatten_tensors([*args, *(kwargs or {}).values()])
            self.count.update(map(id, used))
            self.alive += [result, *used]
        return result


def fold_pair(layer: nn.Module, conv_name: str, norm_name: str) -> None:
    """Fold a batch norm of `layer` into a convolution and leave its activation, if it has one, in its place."""
    conv, norm = layer.get_submodule(conv_name), layer.get_submodule(norm_name)
    transposed_groups = isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1
    if norm.running_var is None or transposed_groups:
        return
    rest = nn.Identity()
    if type(norm).forward is not nn.BatchNorm2d.forward:  # timm's has an activation
        rest = nn.Sequential(*(part for part in norm.children() if not isinstance(part, nn.Identity)))
        x = torch.randn(2, norm.num_features, 3, 3).to(norm.running_var)
        if not torch.allclose(norm(x.clone()), rest(nn.BatchNorm2d.forward(norm, x)), atol=1e-5):
            return
    fuse_conv_and_bn(conv, norm)
    parent, _, name = norm_name.rpartition(".")
    setattr(layer.get_submodule(parent), name, rest)
