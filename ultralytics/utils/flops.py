"""Counting operations: by thop, as published numbers are, and by torch's counter, which sees attention too.

Both run a copy of the model once on the meta device: shapes without arithmetic, so it costs no time at any size and
changes no statistics. A model whose forward raises shows its error; nothing here ever answers 0 for "could not be
counted".
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")
IMAGE_SIZE = 640  # pixels, of published numbers


@dataclass(frozen=True)
class ModelInfo:
    """Size of a model.

    Attributes:
        layers: modules of the network, containers included.
        parameters: all parameters.
        gradients: parameters that are trained.
        gflops: multiplications and additions in 1e9, by thop: convolutions, linear layers, normalisations.
        gflops_attention: the same by torch's counter: convolutions and every matrix product, so attention as well.
        imgsz: (height, width) of the image.
    """

    layers: int
    parameters: int
    gradients: int
    gflops: float
    gflops_attention: float
    imgsz: tuple[int, int]

    def __str__(self) -> str:
        height, width = self.imgsz
        return (
            f"{self.layers} layers, {self.parameters:,} parameters, {self.gradients:,} gradients, "
            f"{self.gflops:.2f} GFLOPs at {height}x{width} by thop, {self.gflops_attention:.2f} in products by torch"
        )


def get_flops(model: nn.Module, imgsz: int | Sequence[int] = IMAGE_SIZE) -> float:
    """GFLOPs of one image in eval mode by thop, times 2: comparable with published numbers.

    Raises:
        ModelConfigError: the model's forward fails at this size; the message has its error.
    """
    return run_copy(model, imgsz, count_operations)[0]


def get_flops_with_attention(model: nn.Module, imgsz: int | Sequence[int] = IMAGE_SIZE) -> float:
    """GFLOPs of one image in eval mode by torch's counter, which counts every convolution and matrix product.

    Raises:
        ModelConfigError: the model's forward fails at this size; the message has its error.
    """
    return run_copy(model, imgsz, count_operations)[1]


def count_operations(model: nn.Module, image: Tensor, counter: FlopCounterMode | None = None) -> tuple[float, float]:
    """GFLOPs by thop and by torch's counter, in one run. It leaves thop's traces on the model: give it a copy.

    Args:
        model: in eval mode.
        image: (1, C, H, W) on its device.
        counter: torch's counter, if its state is wanted during the run.
    """
    import thop
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, where it is installed

    counter = counter or FlopCounterMode(display=False)
    with counter, torch.no_grad(), attention_in_parts():
        macs, _ = thop.profile(model, inputs=(image,), verbose=False)
    return float(macs) * 2 / 1e9, counter.get_total_flops() / 1e9


@contextmanager
def attention_in_parts() -> Iterator[None]:
    """Keep nn.MultiheadAttention from its fused path, which the counter does not see into."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def model_info(
    model: nn.Module, imgsz: int | Sequence[int] = IMAGE_SIZE, detailed: bool = False, verbose: bool = True
) -> ModelInfo:
    """Measure a model and, with `verbose`, log it; `detailed` logs its layer table as well."""
    info = model_size(model, run_copy(model, imgsz, count_operations), imgsz)
    if verbose:
        LOGGER.info(f"{model.table()}\n{info}" if detailed else str(info))
    return info


def model_size(model: nn.Module, gflops: tuple[float, float], imgsz: int | Sequence[int]) -> ModelInfo:
    """Size of a model whose operations have been counted, see `count_operations`."""
    return ModelInfo(
        layers=len(list(model.modules())),
        parameters=sum(p.numel() for p in model.parameters()),
        gradients=sum(p.numel() for p in model.parameters() if p.requires_grad),
        gflops=gflops[0],
        gflops_attention=gflops[1],
        imgsz=_sides(imgsz),
    )


def _sides(imgsz: int | Sequence[int]) -> tuple[int, int]:
    return (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[1])


def copy_on_meta(layer: nn.Module) -> nn.Module:
    """Copy `layer` to the meta device without copying its weights."""
    there = {
        id(tensor): nn.Parameter(tensor.detach().to("meta"), requires_grad=tensor.requires_grad)
        for tensor in layer.parameters()
        if not is_lazy(tensor)
    }
    there |= {id(tensor): tensor.to("meta") for tensor in layer.buffers() if not is_lazy(tensor)}
    return copy.deepcopy(layer, there).to("meta")  # deepcopy takes from there what it would copy


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


def run_copy(model: nn.Module, imgsz: int | Sequence[int], run: Callable[[nn.Module, Tensor], T]) -> T:
    """Call `run` with a copy of the model in eval mode and an image of that size, and return its result.

    Both are on the meta device. A model that cannot run there (it holds tensors of its own, or reads values) runs on
    the CPU, unless it has no data itself.

    Raises:
        ModelConfigError: it fails there too; the message has its error.
    """
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    shape = (1, first.in_channels if first is not None else 3, *_sides(imgsz))
    without_data = any(p.is_meta for p in model.parameters())
    for device in ("meta",) if without_data else ("meta", "cpu"):
        twin = (copy_on_meta(model) if device == "meta" else copy.deepcopy(model).cpu()).eval().float()
        try:
            with FastShapes():
                return run(twin, torch.zeros(shape, device=device))
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError) as error:
            failure = error
    reason = (str(failure).splitlines() or ["no message"])[0]
    raise ModelConfigError(
        f"{type(model).__name__}: its forward fails on an image {shape}: {type(failure).__name__}: {reason}"
    ) from failure
