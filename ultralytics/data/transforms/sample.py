"""Sample: what transforms take and return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Sample:
    """An image with its boxes. Transforms return a changed copy and never write into the arrays of their input."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    boxes: np.ndarray  # (n, 4) float32 x1, y1, x2, y2 in pixels of `image`
    cls: np.ndarray  # (n,) float32
    file: Path
    ori_shape: tuple[int, int]  # (height, width) of the file, upright
    index: int
    image_id: int | str = 0
    ratio: tuple[float, float] = (1.0, 1.0)  # (height, width) of `image` content / those of the file
    pad: tuple[float, float] = (0.0, 0.0)  # (left, top) padding in pixels of `image`

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[:2]


Transform = Callable[[Sample, np.random.Generator], Sample]


class SampleSource(Protocol):
    """Source of further samples for transforms that mix several images."""

    augment_enabled: bool  # False in the last `close_mosaic` epochs

    def sample_random(self, index: int, count: int, rng: np.random.Generator) -> list[Sample]:
        """Return `count` random samples, not augmented, to mix with sample `index`."""


@dataclass(frozen=True)
class Compose:
    """Apply transforms in order, all drawing from the random generator of the sample."""

    transforms: list[Transform]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample


@dataclass(frozen=True)
class WithAugmentation:
    """Apply `transform` until the run ends strong augmentation (option `close_mosaic`)."""

    source: SampleSource = field(repr=False)
    transform: Transform

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.transform(sample, rng) if self.source.augment_enabled else sample
