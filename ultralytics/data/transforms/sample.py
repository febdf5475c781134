"""What transforms take and give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Sample:
    """An image with its boxes; transforms return a changed copy and never write into the arrays they were given."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    boxes: np.ndarray  # (n, 4) float32 x1, y1, x2, y2 in pixels of `image`
    cls: np.ndarray  # (n,) float32
    file: Path
    ori_shape: tuple[int, int]  # (height, width) of the file, upright
    index: int
    image_id: int | str = 0
    ratio: tuple[float, float] = (1.0, 1.0)  # (height, width) of `image` content / that of the file
    pad: tuple[float, float] = (0.0, 0.0)  # (left, top) padding in pixels of `image`

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[:2]


Transform = Callable[[Sample, np.random.Generator], Sample]


class Pool(Protocol):
    """Where mixing transforms take further samples from; a data set is one."""

    strong: bool  # False once the run has ended strong augmentation (the option close_mosaic)

    def others(self, index: int, count: int, rng: np.random.Generator) -> list[Sample]:
        """`count` random samples to mix with that of `index`, at network scale, not augmented."""


class Compose:
    """Transforms one after another, all drawing from the generator of the sample."""

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = list(transforms)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


class WhileStrong:
    """A transform that is left out once the run has ended strong augmentation."""

    def __init__(self, pool: Pool, transform: Transform):
        self.pool, self.transform = pool, transform

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.transform(sample, rng) if self.pool.strong else sample

    def __repr__(self) -> str:
        return f"WhileStrong({self.transform!r})"
