"""The transforms of training and validation, chosen by the options."""

from __future__ import annotations

from typing import Protocol

from ultralytics.data.transforms import (
    Compose,
    Fit,
    MixUp,
    Mosaic,
    RandomFlip,
    RandomHSV,
    RandomPerspective,
)
from ultralytics.data.transforms.sample import Pool


class AugmentOptions(Protocol):
    """The options that are read here; see cfg/default.yaml."""

    imgsz: int
    degrees: float
    translate: float
    scale: float
    shear: float
    perspective: float
    mosaic: float
    mixup: float
    hsv_h: float
    hsv_s: float
    hsv_v: float
    flipud: float
    fliplr: float


def train_transforms(options: AugmentOptions, pool: Pool, imgsz: int | None = None) -> Compose:
    """Mosaic, affine, mixup, colour, flips; outputs are (imgsz, imgsz). Mixing takes samples from `pool`."""
    size = imgsz or options.imgsz
    placed = Compose(
        [
            Mosaic(pool, size, options.mosaic),
            RandomPerspective(
                size, options.degrees, options.translate, options.scale, options.shear, options.perspective
            ),
        ]
    )
    return Compose(
        [
            placed,
            MixUp(pool, placed, options.mixup),
            RandomHSV(options.hsv_h, options.hsv_s, options.hsv_v),
            RandomFlip(options.flipud, vertical=True),
            RandomFlip(options.fliplr),
        ]
    )


def val_transforms(imgsz: int, stretch: bool = True) -> Compose:
    """Only fit the image to (imgsz, imgsz): stretched as RT-DETR wants it, or letterboxed."""
    return Compose([Fit(imgsz, stretched=stretch)])
