"""Tensors whose shape is not the model's, where a change of shape has a meaning."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

# Tensors with one row a class: the heads' scores and the embedding of the denoising queries.
CLASS_ROWS = re.compile(
    r"(^|\.)(denoising_class_embed|\w*score_head(\.\d+)?|one_to_many\.score\.layers\.1)\.(weight|bias)$"
)
CROPPED = "cropped to its middle"  # the one change that loses something, about which the report warns


class Misfit(Exception):
    """Why a tensor cannot be brought to the model's shape."""


@dataclass(frozen=True)
class ClassMap:
    """Which class of the file is which of the model, by name.

    Attributes:
        pairs: (class in the file, class in the model).
        source_count, target_count: how many classes each has.
    """

    pairs: tuple[tuple[int, int], ...]
    source_count: int
    target_count: int

    @classmethod
    def by_names(cls, source: Mapping[int, str], target: Mapping[int, str]) -> ClassMap:
        """Pair classes of one name, whatever their case, with `_`, `-` and space alike."""
        numbers = {_plain(name): index for index, name in reversed(source.items())}
        pairs = tuple((numbers[_plain(n)], index) for index, n in target.items() if _plain(n) in numbers)
        return cls(pairs, len(source), len(target))

    @property
    def is_identity(self) -> bool:
        """Whether it moves nothing: the same classes in the same order."""
        whole = len(self.pairs) == self.source_count == self.target_count
        return whole and all(here == there for here, there in self.pairs)

    def apply(self, value: Tensor, target: Tensor) -> tuple[Tensor, str]:
        """The model's tensor with the rows of the classes that both have. Raises Misfit where there is none."""
        if len(value) != self.source_count or len(target) != self.target_count or value.shape[1:] != target.shape[1:]:
            raise Misfit(shapes(value, target))
        if not self.pairs:
            raise Misfit("the model has none of the file's classes")
        moved = target.detach().clone().to(value.dtype)
        here, there = map(list, zip(*self.pairs, strict=True))
        moved[there] = value[here]
        return moved, f"{len(here)} of {self.target_count} classes by name"


def fit(name: str, value: Tensor, target: Tensor, classes: ClassMap | None = None) -> tuple[Tensor, str]:
    """The tensor in the model's shape, and what was done to it ('' for nothing).

    Raises:
        Misfit: there is no meaningful way.
    """
    if classes is not None and not classes.is_identity and CLASS_ROWS.search(name):
        return classes.apply(value, target)
    if value.shape == target.shape:
        return value, ""
    if name.endswith("attention_biases"):
        return _resize_biases(value, target)
    if value.ndim == target.ndim == 4 and value.shape[:2] == target.shape[:2] and target.shape[1] == 1:
        return _resize_kernel(value, target)
    raise Misfit(shapes(value, target))


def shapes(value: Tensor, target: Tensor) -> str:
    """Both shapes, as the report tells them."""
    return f"shape {tuple(value.shape)}, the model has {tuple(target.shape)}"


def _resize_biases(value: Tensor, target: Tensor) -> tuple[Tensor, str]:
    """Attention biases by |dy|, |dx|, (heads, side * side), of a window of another side.

    The ends are aligned: the published classifiers' last windows are smaller at a coarser stride, and their ends span
    the same pixels as those of the larger window.
    """
    sides = [math.isqrt(tensor.shape[-1]) for tensor in (value, target)]
    square = all(t.ndim == 2 and t.shape[1] == s * s for t, s in zip((value, target), sides, strict=True))
    if not square or value.shape[0] != target.shape[0]:
        raise Misfit(shapes(value, target))
    old, new = sides
    table = value.float().view(1, -1, old, old)
    table = F.interpolate(table, (new, new), mode="bilinear", align_corners=True)  # (1, heads, new, new)
    return table.flatten(2)[0].to(value.dtype), f"window {old}x{old} interpolated to {new}x{new}"


def _resize_kernel(value: Tensor, target: Tensor) -> tuple[Tensor, str]:
    """A depthwise kernel (C, 1, k, k) of another size, around its middle.

    In the middle of zeros it computes the same, as long as the padding grows with it. Cropped it does not.
    """
    (h, w), (height, width) = value.shape[2:], target.shape[2:]
    if (height - h) % 2 or (width - w) % 2:
        raise Misfit(f"kernel {h}x{w} has no middle in common with the model's {height}x{width}")
    margins = ((width - w) // 2,) * 2 + ((height - h) // 2,) * 2  # negative ones take away
    if min(margins) < 0:
        return F.pad(value, margins), f"kernel {h}x{w} {CROPPED} {height}x{width}"
    return F.pad(value, margins), f"kernel {h}x{w} in {height}x{width} of zeros"


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", str(name)).strip().casefold()
