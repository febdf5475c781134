"""Run a layer on the meta device, where tensors have shapes and no values, to learn its output shapes."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ultralytics.utils.errors import ModelConfigError

Shape = tuple[int, ...]


class FastShapes(TorchFunctionMode):
    """While active, compute only the output shape of `batch_norm` and `grid_sample` on the meta device.

    torch decomposes each of them into about a hundred operations there, half of the time of a model. Arguments that do
    not fit together are passed to the function itself, which raises.
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


@torch.no_grad()
def output_shapes(
    layer: nn.Module, inputs: Sequence[Shape], takes_list: bool, where: str, known: bool = False
) -> list[Shape]:
    """Return the shapes of the tensors that a layer returns in eval mode, with nested sequences flattened.

    A layer that cannot run on the meta device (it holds tensors outside its buffers, or reads values) runs on the CPU.

    Args:
        layer: the module; neither its statistics nor its mode change.
        inputs: shape of each input.
        takes_list: whether it gets them as a list.
        where: file, line and layer, for messages.
        known: whether a checkpoint proves that it runs. Then it runs on the CPU with a batch of no images if it can:
            no check, but faster, as torch imports its compiler for the meta device.

    Raises:
        ModelConfigError: its forward fails, or returns something else than tensors; the message names the line.
    """
    if known:
        with _evaluating(layer):
            try:
                found = flatten_tensors(run_layer(layer, [torch.empty(0, *s[1:]) for s in inputs], takes_list))
            except Exception:  # whatever it is, the run with an image below shows it
                found = []
        if found and all(tuple(t.shape).count(0) == 1 for t in found):
            return [tuple(side or 1 for side in t.shape) for t in found]
    try:
        twin = copy.deepcopy(layer).to("meta").eval()
        with FastShapes():
            output = run_layer(twin, [torch.empty(shape, device="meta") for shape in inputs], takes_list)
    except Exception:  # whatever it is, the run on the CPU shows it with a better message
        try:
            with _evaluating(layer):
                output = run_layer(layer, [torch.rand(shape) for shape in inputs], takes_list)
        except Exception as error:  # a user's forward may fail in any way; it is reported with its line
            reason = (str(error).strip().splitlines() or ["no message"])[0]
            raise ModelConfigError(
                f"{where} fails on inputs {[tuple(shape) for shape in inputs]}: {type(error).__name__}: "
                f"{reason}{_line_of(error)}"
            ) from error
    found = flatten_tensors(output)
    if not found:
        kind = type(output).__name__
        raise ModelConfigError(f"{where}: its forward returns a {kind}; expected a map (B, C, H, W), or a list of maps")
    return [tuple(t.shape) for t in found]


def run_layer(layer: nn.Module, inputs: Sequence[Tensor], takes_list: bool) -> Any:
    """Call a layer with one map, a list of maps, or each map as a separate argument."""
    if takes_each_map(layer, len(inputs), takes_list):
        return layer(*inputs)
    return layer(list(inputs)) if takes_list else layer(inputs[0])


def takes_each_map(layer: nn.Module, count: int, takes_list: bool) -> bool:
    """Check whether `forward` has a parameter for each of several inputs instead of one for their list."""
    if not takes_list or count < 2 or isinstance(layer, nn.Sequential):
        return False
    parameters = inspect.signature(layer.forward).parameters.values()
    return count == sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)


def flatten_tensors(output: Any) -> list[Tensor]:
    """Return the tensors of an output, with nested lists and tuples flattened."""
    if isinstance(output, Tensor):
        return [output]
    return [t for part in output for t in flatten_tensors(part)] if isinstance(output, list | tuple) else []


@contextmanager
def _evaluating(layer: nn.Module) -> Iterator[None]:
    """Set a layer to eval mode; afterwards restore the mode of each part and the random state."""
    modes = {module: module.training for module in layer.modules()}
    state = torch.get_rng_state()
    try:
        layer.eval()
        yield
    finally:
        torch.set_rng_state(state)
        for module, training in modes.items():
            module.training = training


def _line_of(error: BaseException) -> str:
    """Return ` (FILE, line N)` of the deepest frame outside torch."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "torch" not in Path(f.filename).parts]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 2 else ""
