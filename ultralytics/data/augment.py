"""Augmentation pipelines of training, selected by the option `augmentation`.

A new augmentation is a class in `transforms/` and its entry in a pipeline here.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ultralytics.cfg.options import Options
from ultralytics.data.transforms.color import RandomHSV, RandomPhotometricDistort
from ultralytics.data.transforms.crop import RandomIoUCrop, RandomZoomOut, SanitizeBoundingBoxes
from ultralytics.data.transforms.geometry import LetterBox, RandomFlip, RandomPerspective, Resize
from ultralytics.data.transforms.mix import CutMix, GridMosaic, MixUp, Mosaic
from ultralytics.data.transforms.sample import Compose, Sample, SampleSource, Transform, WithAugmentation, takes_labels
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import is_installed, require
from ultralytics.utils.errors import OptionError
from ultralytics.utils.ops import xywhn2xyxy, xyxy2xywhn
from ultralytics.utils.overrides import accepted
from ultralytics.utils.public import public_names

Fit = Callable[[int], Transform]
FIT: dict[str, Fit] = {"stretch": Resize, "letterbox": LetterBox}  # to a square of this side
RARE = ("Blur", "MedianBlur", "ToGray", "CLAHE")  # of albumentations, as published: each for 1 % of the images
DETAIL = 2  # times imgsz: longest side before the official pipeline, which crops parts of at least 0.3 of a side


class Albumentations:
    """Apply transforms of the package albumentations to the image, and to the boxes if one of them moves these.

    `transforms` are objects of the package, or what their `to_dict` returns; by default those of `RARE`, if it is
    installed. An image that would lose all its boxes is not changed. A script may set `transform`, also with boxes in
    the format "yolo" and the label field `class_labels`.
    """

    def __init__(self, p: float = 1.0, transforms: list[Any] | None = None, flip_idx: Any = None) -> None:
        self.p, self.transform = p, None
        if not (is_installed("albumentations") if transforms is None else transforms):
            return
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask a server for its newest version
        package = require("albumentations", "albumentations>=1.4.21", "augmentations")
        if not hasattr(package.Compose, "set_random_seed"):
            raise OptionError("augmentations: pip install -U albumentations, an old one is installed; or write []")
        steps = [getattr(package, name)(p=0.01) for name in RARE] if transforms is None else transforms
        try:
            steps = [package.from_dict(dict(step)) if isinstance(step, Mapping) else step for step in steps]
        except KeyError as name:
            raise OptionError(f"augmentations: no transform {name}; import the module that defines it") from None
        moves = "bboxes" in package.Compose(steps).available_keys
        boxes = package.BboxParams(format="yolo", label_fields=["class_labels"]) if moves else None
        self.transform = package.Compose(steps, bbox_params=boxes)

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if self.transform is None or rng.random() >= self.p:
            return sample
        self.transform.set_random_seed(int(rng.integers(2**31)))
        if "bboxes" not in self.transform.processors:
            return replace(sample, image=self.transform(image=sample.image)["image"])
        boxes = xyxy2xywhn(sample.boxes, *sample.shape[::-1])
        moved = self.transform(image=sample.image, bboxes=boxes, class_labels=sample.cls)
        if len(boxes) and not len(moved["bboxes"]):
            return sample
        boxes = xywhn2xyxy(np.reshape(moved["bboxes"], (-1, 4)), *moved["image"].shape[1::-1])
        return replace(sample, image=moved["image"], boxes=np.float32(boxes), cls=np.float32(moved["class_labels"]))


def train_transforms(
    options: Options, source: SampleSource, imgsz: int, resize: str = "stretch", rectangles: Transform | None = None
) -> Compose:
    """Build the pipeline `options.augmentation` to (imgsz, imgsz); mixing draws samples from `source`.

    `resize` is "stretch" or "letterbox": how a single image is brought to a square. `rectangles` brings it to another
    shape, without mixing.
    """
    if rectangles is None:
        return PIPELINES[options.augmentation](options.replace(rect=None), source, imgsz, FIT[resize])
    alone = options.replace(rect=True, mosaic=0.0, mixup=0.0, cutmix=0.0, dense=0.0)
    return PIPELINES[options.augmentation](alone, source, imgsz, lambda size: rectangles)


def mosaic_pipeline(options: Options, source: SampleSource, size: int, fit: Fit) -> Compose:
    """Build mosaic, affine, mixup, cutmix, albumentations, HSV and flips.

    Each tile of a dense grid has its own affine transform.
    """
    affine = (options.degrees, options.translate, options.scale, options.shear, options.perspective)
    whole = RandomPerspective(*affine, None if options.rect else size)
    mosaic = Mosaic(source, size, options.mosaic, fit=fit(size), affine=whole)
    library = Albumentations(**accepted(Albumentations, transforms=options.augmentations))
    if library.transform:
        LOGGER.info(f"albumentations: {', '.join(' '.join(str(step).split()) for step in library.transform)}")
    tile = Compose([fit(size // 2), RandomPerspective(*affine, size // 2)])
    return Compose(
        [
            _with_grid(options, source, tile, mosaic, size, fit),
            MixUp(source, mosaic, options.mixup),
            *([CutMix(source, mosaic, options.cutmix)] if options.cutmix else ()),  # else no random number is drawn
            *([library] if library.transform else ()),
            RandomHSV(options.hsv_h, options.hsv_s, options.hsv_v),
            RandomFlip(options.flipud, "vertical"),
            RandomFlip(options.fliplr),
        ]
    )


def official_pipeline(options: Options, source: SampleSource, size: int, fit: Fit) -> Compose:
    """Build the official RT-DETR configuration: color, zoom-out, IoU crop, resize, flip.

    Tiles of a dense grid are not zoomed out, as the grid makes them smaller already.
    """
    color, crop = RandomPhotometricDistort(p=0.5), RandomIoUCrop(p=0.8)
    augmented = WithAugmentation(source, Compose([color, RandomZoomOut(0.5, max_side=DETAIL * size), crop]))
    whole = Compose([augmented, fit(size), SanitizeBoundingBoxes(min_side=1)])
    grid = _with_grid(options, source, Compose([color, crop]), whole, size, fit)
    return Compose([grid, RandomFlip(options.fliplr)])


def no_augmentation(options: Options, source: SampleSource, size: int, fit: Fit) -> Compose:
    """Build the transform of validation."""
    if options.dense:
        raise OptionError(f"dense={options.dense:g} needs augmentation=mosaic or official, got augmentation=none")
    return Compose([fit(size)])


PIPELINES: dict[str, Callable[[Options, SampleSource, int, Fit], Compose]] = {
    "mosaic": mosaic_pipeline, "official": official_pipeline, "none": no_augmentation,
}  # fmt: skip


def _with_grid(
    options: Options, source: SampleSource, tile: Transform, otherwise: Transform, size: int, fit: Fit
) -> Transform:
    return GridMosaic(source, tile, fit(size // 2), otherwise, size, options.dense) if options.dense else otherwise


__getattr__ = public_names(__name__)
