"""The transforms of training and validation, chosen by the options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ultralytics.data.transforms import (
    Compose,
    Dense,
    Fit,
    MixUp,
    Mosaic,
    RandomFlip,
    RandomHSV,
    RandomIoUCrop,
    RandomPerspective,
    RandomPhotometricDistort,
    RandomZoomOut,
    SanitizeBoundingBoxes,
    Transform,
    WhileStrong,
)
from ultralytics.data.transforms.sample import Pool
from ultralytics.utils.errors import OptionError

DETAIL = 2  # times imgsz: the longest side the official pipeline works on; a crop of 0.3 of it still has 0.6 imgsz


class AugmentOptions(Protocol):
    """The options that are read here; see cfg/default.yaml."""

    imgsz: int
    augmentation: str
    dense: float
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
    """The pipeline `options.augmentation`; outputs are (imgsz, imgsz). Mixing takes samples from `pool`."""
    return PIPELINES[options.augmentation](options, pool, imgsz or options.imgsz)


def val_transforms(imgsz: int, stretch: bool = True) -> Compose:
    """Only fit the image to (imgsz, imgsz): stretched as RT-DETR wants it, or letterboxed."""
    return Compose([Fit(imgsz, stretched=stretch)])


def longest_side(options: AugmentOptions, imgsz: int) -> int | None:
    """Pixels the pipeline wants of the longer side of an image in its own proportions; None: stretched to imgsz.

    The official pipeline crops images before they are stretched, so they keep more detail than the network sees.
    """
    return DETAIL * imgsz if options.augmentation == "official" else None


def mosaic_pipeline(options: AugmentOptions, pool: Pool, size: int) -> Compose:
    """Mosaic, affine, mixup, colour, flips. A tile of a dense grid is a single image with its own affine transform."""
    affine = (options.degrees, options.translate, options.scale, options.shear, options.perspective)
    placed = Mosaic(pool, size, options.mosaic, RandomPerspective(size, *affine))
    tile = Compose([Fit(size // 2), RandomPerspective(size // 2, *affine)])
    return Compose(
        [
            _dense(options, pool, tile, placed, size),
            MixUp(pool, placed, options.mixup),
            RandomHSV(options.hsv_h, options.hsv_s, options.hsv_v),
            RandomFlip(options.flipud, vertical=True),
            RandomFlip(options.fliplr),
        ]
    )


def official_pipeline(options: AugmentOptions, pool: Pool, size: int) -> Compose:
    """The official RT-DETR configuration: colour, zoom-out, IoU crop, flip, stretched to the size.

    A tile of a dense grid is not zoomed out: the grid makes it smaller already.
    """
    colour, crop, sane = RandomPhotometricDistort(p=0.5), RandomIoUCrop(p=0.8), SanitizeBoundingBoxes(min_side=1)
    zoom = RandomZoomOut(p=0.5, longest=DETAIL * size)
    whole = Compose([WhileStrong(pool, Compose([colour, zoom, crop])), Fit(size), sane])
    tile = Compose([colour, crop])
    return Compose([_dense(options, pool, tile, whole, size), RandomFlip(options.fliplr)])


def no_augmentation(options: AugmentOptions, pool: Pool, size: int) -> Compose:
    """Images as validation sees them."""
    if options.dense:
        raise OptionError(
            f"dense={options.dense:g}: augmentation=none changes no image; "
            "write augmentation=mosaic or official, or leave dense out"
        )
    return val_transforms(size)


PIPELINES: dict[str, Callable[[AugmentOptions, Pool, int], Compose]] = {
    "mosaic": mosaic_pipeline,
    "official": official_pipeline,
    "none": no_augmentation,
}


def _dense(options: AugmentOptions, pool: Pool, tile: Transform, otherwise: Transform, size: int) -> Transform:
    return Dense(pool, tile, otherwise, size, options.dense) if options.dense else otherwise
