"""FLOPs and output shapes, from runs on the meta device, where tensors have shapes and no values.

FLOPs are counted by thop, as published numbers are, and by torch's counter, which includes attention.
"""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.files import first_line

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]  # of several maps under one number: tuples of their channels and, if these differ, sides
T = TypeVar("T")
IMAGE_SIZE = 640  # pixels, of published numbers


@dataclass(frozen=True)
class ModelInfo:
    """Size of a model."""

    layers: int  # modules of the network, including containers
    parameters: int
    gradients: int  # parameters that require a gradient
    gflops: float  # 1e9 multiplications and additions by thop: convolutions, linear layers, normalizations
    gflops_attention: float  # the same by torch's counter: convolutions and all matrix products, including attention
    imgsz: tuple[int, int]  # height, width

    def __iter__(self) -> Iterator[float]:
        return iter((self.layers, self.parameters, self.gradients, self.gflops))

    def __str__(self) -> str:
        height, width = self.imgsz
        return (
            f"{self.layers} layers, {self.parameters:,} parameters, {self.gradients:,} gradients, "
            f"{self.gflops:.2f} GFLOPs at {height}x{width} by thop, {self.gflops_attention:.2f} in products by torch"
        )


def get_flops(model: nn.Module, imgsz: int | Sequence[int] = IMAGE_SIZE) -> float:
    """Return the GFLOPs of one image in eval mode by thop, times 2. Raises ModelConfigError if the forward fails.

    Examples:
        >>> get_flops(nn.Conv2d(3, 8, kernel_size=1, bias=False), imgsz=100)  # 2 * 3 * 8 * 100 * 100 / 1e9
        0.00048
    """
    return run_copy(model, imgsz, count_operations)[0]


def count_operations(model: nn.Module, image: Tensor, counter: FlopCounterMode | None = None) -> tuple[float, float]:
    """Return the GFLOPs by thop and by torch's counter, from one run.

    Args:
        model: in eval mode; thop leaves attributes on it, so pass a copy.
        image: (1, C, H, W) on its device.
        counter: torch's counter, if its state is needed during the run.
    """
    import thop
    from torch.utils.flop_counter import FlopCounterMode  # imports triton if it is installed

    counter = counter or FlopCounterMode(display=False)
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see its products
    try:
        with counter, torch.no_grad():
            macs, _ = thop.profile(model, inputs=(image,), verbose=False)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    return float(macs) * 2 / 1e9, counter.get_total_flops() / 1e9


def model_info(
    model: nn.Module, detailed: bool = False, verbose: bool = True, imgsz: int | Sequence[int] = IMAGE_SIZE
) -> ModelInfo:
    """Measure a model; log it if `verbose`, together with its layer table if `detailed`."""
    info = model_size(model, run_copy(model, imgsz, count_operations), imgsz)
    if verbose:
        LOGGER.info(f"{model.table()}\n{info}" if detailed else str(info))
    return info


def model_size(model: nn.Module, gflops: tuple[float, float], imgsz: int | Sequence[int]) -> ModelInfo:
    """Return the size of a model whose operations were counted by `count_operations`."""
    parameters = list(model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    modules, total = sum(1 for _ in model.modules()), sum(p.numel() for p in parameters)
    return ModelInfo(modules, total, trained, *gflops, _sides(imgsz))


def _sides(imgsz: int | Sequence[int]) -> tuple[int, int]:
    return (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[1])


class ShapesOnly(TorchFunctionMode):
    """Skip norms and sampling on the meta device, which take most of the time; sizes that do not fit still raise."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in (F.batch_norm, F.layer_norm) and args[0].is_meta and args[1] is not None:
            batch = func is F.batch_norm  # whose second argument is the running mean
            expected = args[1].shape if batch else tuple(args[1])
            if expected == (args[0].shape[1:2] if batch else args[0].shape[-len(expected) :]):
                return torch.empty_like(args[0])
        if func is F.grid_sample and args[0].is_meta and args[0].ndim == 4:
            return args[0].new_empty(*args[0].shape[:2], *args[1].shape[1:3])
        return func(*args, **(kwargs or {}))


def run_copy(model: nn.Module, imgsz: int | Sequence[int], run: Callable[[nn.Module, Tensor], T]) -> T:
    """Call `run` with a copy of the model in eval mode and an image of that size, both on the meta device.

    A model that was built there is not copied. One that cannot run there (it holds tensors outside its buffers, or
    reads values) runs on the CPU. Raises ModelConfigError with the reason if it fails there, too.
    """
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    shape = (1, first.in_channels if first is not None else 3, *_sides(imgsz))
    without_data = any(p.is_meta for p in model.parameters())
    for device in ("meta",) if without_data else ("meta", "cpu"):
        twin = model.eval() if without_data else copy.deepcopy(model).eval().float().to(device)
        try:
            with ShapesOnly():
                return run(twin, torch.zeros(shape, device=device))
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError, NameError) as error:
            failure = error
    raise ModelConfigError(
        f"{type(model).__name__}: its forward fails on an image {shape}: "
        f"{type(failure).__name__}: {first_line(failure)}"
    ) from failure


@torch.no_grad()
def output_shapes(
    layer: nn.Module, inputs: Sequence[Shape], takes_list: bool, where: str, known: bool = False
) -> list[Shape]:
    """Return the shapes of the tensors that a layer returns in eval mode, with nested sequences flattened.

    A layer that cannot run on the meta device (it holds tensors outside its buffers, or reads values) runs on the CPU.
    Raises ModelConfigError, starting with `where`, if that fails or returns no tensors.

    Args:
        layer: the module; neither its statistics nor its mode change.
        inputs: shape of each input.
        takes_list: whether it gets them as a list.
        where: file, line and layer, for messages.
        known: whether a checkpoint proves that it runs. Then it runs on the CPU with a batch of no images if it can,
            as torch imports its compiler for the meta device.
    """
    if known:
        try:
            found = flatten_tensors(run_in_eval(layer, [example((0, *s[1:]), torch.empty) for s in inputs], takes_list))
        except Exception:  # whatever it is, the run with an image below shows it
            found = []
        if found and all(tuple(t.shape).count(0) == 1 for t in found):
            return [tuple(side or 1 for side in t.shape) for t in found]
    try:
        twin = layer if any(p.is_meta for p in layer.parameters()) else copy.deepcopy(layer).to("meta")
        maps = [example(shape, partial(torch.empty, device="meta")) for shape in inputs]
        with ShapesOnly():
            output = run_in_eval(twin, maps, takes_list)
    except Exception:  # whatever it is, the run on the CPU shows it with a better message
        try:
            output = run_in_eval(layer, [example(shape, torch.ones) for shape in inputs], takes_list)
        except Exception as error:  # a user's forward may fail in any way; it is reported with its line
            # the line of the deepest frame outside torch
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "torch" not in Path(f.filename).parts]
            line = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 2 else ""
            raise ModelConfigError(
                f"{where} fails on inputs {[tuple(shape) for shape in inputs]}: {type(error).__name__}: "
                f"{first_line(error)}{line}"
            ) from error
    if shapes := [tuple(t.shape) for t in flatten_tensors(output)]:
        return shapes
    kind = type(output).__name__
    raise ModelConfigError(f"{where}: its forward returns a {kind}; expected a map (B, C, H, W), or a list of maps")


def joint_shape(shapes: Sequence[Shape]) -> Shape:
    """Return the shape of several maps under one number."""
    sizes = [tuple(sides) for sides in zip(*(shape[2:] for shape in shapes), strict=True)]
    return (shapes[0][0], tuple(shape[1] for shape in shapes), *(s[0] if len(set(s)) == 1 else s for s in sizes))


def example(shape: Shape, make: Callable[[Shape], Tensor]) -> Any:
    """Return the tensor that `make` returns for a shape, or the tuple of tensors of several maps under one number."""
    if isinstance(shape[1], tuple):
        sides = [side if isinstance(side, tuple) else (side,) * len(shape[1]) for side in shape[2:]]
        return tuple(make((shape[0], *rest)) for rest in zip(shape[1], *sides, strict=True))
    return make(shape)


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


def run_in_eval(layer: nn.Module, inputs: Sequence[Tensor], takes_list: bool) -> Any:
    """Run a layer in eval mode; afterwards restore the mode of each part and the random state."""
    modes = {module: module.training for module in layer.modules()}
    try:
        with torch.random.fork_rng(devices=[]):
            return run_layer(layer.eval(), inputs, takes_list)
    finally:
        for module, training in modes.items():
            module.training = training
