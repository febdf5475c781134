"""What a layer gives for inputs of known shapes, without arithmetic where that is possible."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.meta import ShapesAlone, copy_on_meta

Shape = tuple[int, ...]


@torch.no_grad()
def output_shapes(
    layer: nn.Module, inputs: Sequence[Shape], listed: bool, where: str, known: bool = False
) -> list[Shape]:
    """Shapes of the tensors that a layer returns in eval mode; nested sequences are flattened.

    It runs on the meta device. A layer that cannot (it holds tensors of its own, or reads values) runs on the CPU.

    Args:
        layer: the module; neither its statistics nor its mode change.
        inputs: shape of each input.
        listed: whether it gets them as a list.
        where: file, line and layer, for messages.
        known: whether it has been run before, when the weights were made that it is going to load. Then the shapes
            are those for no images at all, where that works. It is no check (a `view` of nothing fits everything),
            but torch imports its compiler to work on the meta device, which takes longer than a prediction.

    Raises:
        ModelConfigError: its forward fails, or returns something else than tensors; the message names the line.
    """
    if known and (shapes := _without_images(layer, inputs, listed)) is not None:
        return shapes
    try:
        twin = copy_on_meta(layer).eval()
        with ShapesAlone():
            output = call(twin, [torch.empty(shape, device="meta") for shape in inputs], listed)
    except Exception:  # whatever it is, the run on the CPU below shows it with a better message
        output = _on_cpu(layer, inputs, listed, where)
    found = tensors(output)
    if not found:
        kind = type(output).__name__
        raise ModelConfigError(f"{where}: its forward returns a {kind}; expected a map (B, C, H, W), or a list of maps")
    return [tuple(t.shape) for t in found]


def call(layer: nn.Module, inputs: Sequence[Tensor], listed: bool) -> Any:
    """Run a layer on its inputs: one map, a list of maps, or each map as an argument of its own."""
    if takes_each_map(layer, len(inputs), listed):
        return layer(*inputs)
    return layer(list(inputs)) if listed else layer(inputs[0])


def takes_each_map(layer: nn.Module, count: int, listed: bool) -> bool:
    """Whether `forward` has a parameter for each of several inputs instead of one for their list."""
    if not listed or count < 2 or isinstance(layer, nn.Sequential):
        return False
    parameters = inspect.signature(layer.forward).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return len(required) == count


def tensors(output: Any) -> list[Tensor]:
    """Tensors of an output, nested sequences flattened."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, list | tuple):
        return [t for part in output for t in tensors(part)]
    return []


def _without_images(layer: nn.Module, inputs: Sequence[Shape], listed: bool) -> list[Shape] | None:
    """Output shapes found with a batch of size 0; None where the layer cannot take it."""
    with _evaluating(layer):
        try:
            output = call(layer, [torch.empty(0, *shape[1:]) for shape in inputs], listed)
        except Exception:  # whatever it is, the run with an image shows it
            return None
    found = [tuple(t.shape) for t in tensors(output)]
    if not found or any(shape.count(0) != 1 for shape in found):
        return None
    return [tuple(side or 1 for side in shape) for shape in found]


@contextmanager
def _evaluating(layer: nn.Module) -> Iterator[None]:
    """The layer in eval, and afterwards each part of it in the mode it had; random numbers go on as if nothing was."""
    modes = {module: module.training for module in layer.modules()}
    state = torch.get_rng_state()
    try:
        layer.eval()
        yield
    finally:
        torch.set_rng_state(state)
        for module, training in modes.items():
            module.training = training


def _on_cpu(layer: nn.Module, inputs: Sequence[Shape], listed: bool, where: str) -> Any:
    try:
        with _evaluating(layer):
            return call(layer, [torch.rand(shape) for shape in inputs], listed)
    except Exception as error:  # a user's forward may fail in any way; it is reported with its line
        shapes = [tuple(shape) for shape in inputs]
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        raise ModelConfigError(
            f"{where} fails on inputs {shapes}: {type(error).__name__}: {reason}{_place(error)}"
        ) from error


def _place(error: BaseException) -> str:
    """` (FILE, line N)` of the deepest frame outside torch."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "torch" not in f.filename.replace("\\", "/").split("/")
    ]
    return f" ({frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno})" if len(frames) > 2 else ""
