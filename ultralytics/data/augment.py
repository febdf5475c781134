"""Augmentation pipelines of training, selected by the option `augmentation`.

A new augmentation is a class in `transforms/` and its entry in a pipeline here.
"""

from collections.abc import Callable

from ultralytics.cfg.options import Options
from ultralytics.data.transforms.color import RandomHSV, RandomPhotometricDistort
from ultralytics.data.transforms.crop import RandomIoUCrop, RandomZoomOut, SanitizeBoundingBoxes
from ultralytics.data.transforms.geometry import LetterBox, RandomFlip, RandomPerspective, Resize
from ultralytics.data.transforms.mix import CutMix, GridMosaic, MixUp, Mosaic
from ultralytics.data.transforms.sample import Compose, SampleSource, Transform, WithAugmentation
from ultralytics.utils.errors import OptionError
from ultralytics.utils.public import public_names

Fit = Callable[[int], Transform]
FIT: dict[str, Fit] = {"stretch": Resize, "letterbox": LetterBox}  # to a square of this side
DETAIL = 2  # times imgsz: longest side before the official pipeline, which crops parts of at least 0.3 of a side


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
    """Build mosaic, affine, mixup, cutmix, HSV and flips. Each tile of a dense grid has its own affine transform."""
    affine = (options.degrees, options.translate, options.scale, options.shear, options.perspective)
    whole = RandomPerspective(*affine, None if options.rect else size)
    mosaic = Mosaic(source, size, options.mosaic, fit=fit(size), affine=whole)
    tile = Compose([fit(size // 2), RandomPerspective(*affine, size // 2)])
    return Compose(
        [
            _with_grid(options, source, tile, mosaic, size, fit),
            MixUp(source, mosaic, options.mixup),
            *([CutMix(source, mosaic, options.cutmix)] if options.cutmix else ()),  # else no random number is drawn
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
