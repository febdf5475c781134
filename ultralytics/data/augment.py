"""Augmentation pipelines of training, selected by the option `augmentation`.

A new augmentation is a class in `transforms/` and its entry in a pipeline here.
"""

from collections.abc import Callable

from ultralytics.cfg.options import Options
from ultralytics.data.transforms.color import RandomHSV, RandomPhotometricDistort
from ultralytics.data.transforms.crop import RandomIoUCrop, RandomZoomOut, SanitizeBoundingBoxes
from ultralytics.data.transforms.geometry import RandomFlip, RandomPerspective, Resize
from ultralytics.data.transforms.mix import GridMosaic, MixUp, Mosaic
from ultralytics.data.transforms.sample import Compose, SampleSource, Transform, WithAugmentation
from ultralytics.utils.errors import OptionError

DETAIL = 2  # times imgsz: longest side before the official pipeline, which crops parts of at least 0.3 of a side


def train_transforms(options: Options, source: SampleSource, imgsz: int) -> Compose:
    """Build the pipeline `options.augmentation` to (imgsz, imgsz); mixing draws samples from `source`."""
    return PIPELINES[options.augmentation](options, source, imgsz)


def mosaic_pipeline(options: Options, source: SampleSource, size: int) -> Compose:
    """Build mosaic, affine, mixup, HSV and flips. Each tile of a dense grid has its own affine transform."""
    affine = (options.degrees, options.translate, options.scale, options.shear, options.perspective)
    mosaic = Mosaic(source, size, options.mosaic, RandomPerspective(size, *affine))
    tile = Compose([Resize(size // 2), RandomPerspective(size // 2, *affine)])
    return Compose(
        [
            _with_grid(options, source, tile, mosaic, size),
            MixUp(source, mosaic, options.mixup),
            RandomHSV(options.hsv_h, options.hsv_s, options.hsv_v),
            RandomFlip(options.flipud, vertical=True),
            RandomFlip(options.fliplr),
        ]
    )


def official_pipeline(options: Options, source: SampleSource, size: int) -> Compose:
    """Build the official RT-DETR configuration: color, zoom-out, IoU crop, resize, flip.

    Tiles of a dense grid are not zoomed out, as the grid makes them smaller already.
    """
    color, crop = RandomPhotometricDistort(p=0.5), RandomIoUCrop(p=0.8)
    augmented = WithAugmentation(source, Compose([color, RandomZoomOut(0.5, max_side=DETAIL * size), crop]))
    whole = Compose([augmented, Resize(size), SanitizeBoundingBoxes(min_side=1)])
    return Compose([_with_grid(options, source, Compose([color, crop]), whole, size), RandomFlip(options.fliplr)])


def no_augmentation(options: Options, source: SampleSource, size: int) -> Compose:
    """Build the transform of validation."""
    if options.dense:
        raise OptionError(f"dense={options.dense:g} needs augmentation=mosaic or official, got augmentation=none")
    return Compose([Resize(size)])


PIPELINES: dict[str, Callable[[Options, SampleSource, int], Compose]] = {
    "mosaic": mosaic_pipeline,
    "official": official_pipeline,
    "none": no_augmentation,
}


def _with_grid(options: Options, source: SampleSource, tile: Transform, otherwise: Transform, size: int) -> Transform:
    return GridMosaic(source, tile, otherwise, size, options.dense) if options.dense else otherwise
