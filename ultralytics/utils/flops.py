"""Count operations: by thop, as published numbers are, and by torch's counter, which includes attention.

Both run a copy of the model once on the meta device: shapes without arithmetic, at any image size. A model whose
forward fails is an error, never 0 FLOPs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.meta_device import FastShapes

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")
IMAGE_SIZE = 640  # pixels, of published numbers


@dataclass(frozen=True)
class ModelInfo:
    """Size of a model.

    Attributes:
        layers: modules of the network, including containers.
        parameters: all parameters.
        gradients: parameters that require a gradient.
        gflops: 1e9 multiplications and additions by thop: convolutions, linear layers, normalizations.
        gflops_attention: the same by torch's counter: convolutions and all matrix products, including attention.
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
    """Return the GFLOPs of one image in eval mode by thop, times 2: comparable with published numbers.

    Raises:
        ModelConfigError: the model's forward fails at this size; the message has its error.

    Example:
        >>> get_flops(nn.Conv2d(3, 8, kernel_size=1, bias=False), imgsz=100)  # 2 * 3 * 8 * 100 * 100 / 1e9
        0.00048
    """
    return run_copy(model, imgsz, count_operations)[0]


def get_flops_with_attention(model: nn.Module, imgsz: int | Sequence[int] = IMAGE_SIZE) -> float:
    """Return the GFLOPs of one image in eval mode by torch's counter: all convolutions and matrix products.

    Raises:
        ModelConfigError: the model's forward fails at this size; the message has its error.
    """
    return run_copy(model, imgsz, count_operations)[1]


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
    with counter, torch.no_grad(), _unfused_attention():
        macs, _ = thop.profile(model, inputs=(image,), verbose=False)
    return float(macs) * 2 / 1e9, counter.get_total_flops() / 1e9


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Disable the fused path of nn.MultiheadAttention, whose products the counter does not see."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def model_info(
    model: nn.Module, imgsz: int | Sequence[int] = IMAGE_SIZE, detailed: bool = False, verbose: bool = True
) -> ModelInfo:
    """Measure a model; log it if `verbose`, together with its layer table if `detailed`."""
    info = model_size(model, run_copy(model, imgsz, count_operations), imgsz)
    if verbose:
        LOGGER.info(f"{model.table()}\n{info}" if detailed else str(info))
    return info


def model_size(model: nn.Module, gflops: tuple[float, float], imgsz: int | Sequence[int]) -> ModelInfo:
    """Return the size of a model whose operations were counted by `count_operations`."""
    parameters = list(model.parameters())
    return ModelInfo(
        layers=len(list(model.modules())),
        parameters=sum(p.numel() for p in parameters),
        gradients=sum(p.numel() for p in parameters if p.requires_grad),
        gflops=gflops[0],
        gflops_attention=gflops[1],
        imgsz=_sides(imgsz),
    )


def _sides(imgsz: int | Sequence[int]) -> tuple[int, int]:
    return (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[1])


def run_copy(model: nn.Module, imgsz: int | Sequence[int], run: Callable[[nn.Module, Tensor], T]) -> T:
    """Call `run` with a copy of the model in eval mode and an image of that size, both on the meta device.

    A model that cannot run there (it holds tensors outside its buffers, or reads values) runs on the CPU.

    Raises:
        ModelConfigError: it fails there too; the message has its error.
    """
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    shape = (1, first.in_channels if first is not None else 3, *_sides(imgsz))
    without_data = any(p.is_meta for p in model.parameters())
    for device in ("meta",) if without_data else ("meta", "cpu"):
        twin = copy.deepcopy(model).eval().float().to(device)
        try:
            with FastShapes():
                return run(twin, torch.zeros(shape, device=device))
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError) as error:
            failure = error
    reason = (str(failure).splitlines() or ["no message"])[0]
    raise ModelConfigError(
        f"{type(model).__name__}: its forward fails on an image {shape}: {type(failure).__name__}: {reason}"
    ) from failure
