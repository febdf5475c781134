"""Recommend training options for few images, crowded or empty ones, and tiny boxes.

The defaults are those of the paper for COCO (118,000 images). docs/en/data.md lists the conditions.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ultralytics.cfg.options import Options
from ultralytics.data.labels import ImageLabels
from ultralytics.utils.errors import counted

FEW_IMAGES = 1000  # too few to train from scratch
VERY_FEW_IMAGES = 200  # too few to train a pretrained backbone
MIN_UPDATES = 3000  # optimizer steps of a run from scratch; the paper's on COCO has 500,000
MIN_UPDATES_PRETRAINED = 1000
MIN_PATIENCE_UPDATES = 500  # optimizer steps without progress before early stopping
SMALL_BATCH = 4  # for more updates per epoch
MIN_QUERIES = 50
FINEST_STRIDE = 8  # pixels per cell of the finest feature map of the decoder
TINY_SHARE = 0.2  # of all boxes
MAX_SIZE = 1280


def recommend_options(
    labels: Sequence[ImageLabels], options: Options, *, queries: int | None, pretrained: bool
) -> list[str]:
    """Return lines of `option=value: reason` for a training run; empty if nothing is unusual.

    `labels` are those of at least one training image, `queries` the object queries of the decoder, None for
    a network without one, and `pretrained` is whether the backbone starts from weights.
    """
    boxes = [item.boxes[~item.crowd] for item in labels]
    sides = np.concatenate(boxes)[:, 2:].min(axis=1)  # (boxes,) shorter side as a fraction of the image
    image_side = float(np.median([max(item.shape) for item in labels]))
    updates = updates_per_epoch(len(labels), options.batch, options.nbs)
    of_decoder = () if queries is None else (
        *_queries(len(labels), max(map(len, boxes)), options, queries),
        *_start(len(labels), updates, options, pretrained),
    )  # fmt: skip
    return [*of_decoder, *_image_size(sides, image_side, options.imgsz), *_schedule(updates, options)]


def updates_per_epoch(images: int, batch: int, nbs: int) -> int:
    """Return the optimizer steps per epoch; a batch below the nominal one `nbs` accumulates gradients up to it."""
    return math.ceil(math.ceil(images / batch) / max(round(nbs / batch), 1))


def _queries(images: int, most: int, options: Options, queries: int) -> Iterator[str]:
    """Recommend more or fewer queries for at most `most` boxes per image."""
    fewer = max(MIN_QUERIES, _round_up(5 * most, 10))
    if most > queries:
        more = _round_up(1.5 * most, 50)
        max_det = f" max_det={more}" if options.max_det < most else ""
        yield f"queries={more}{max_det}: an image has {counted(most, 'box')}; {queries} queries find {queries} at most"
    elif images < FEW_IMAGES and queries > max(10 * most, fewer):
        yield f"queries={fewer}: at most {counted(most, 'box')} per image; {queries} queries would only cost time"


def _start(images: int, updates: int, options: Options, pretrained: bool) -> Iterator[str]:
    """Recommend more updates, a higher rate, pretrained weights or a frozen backbone for few images."""
    total, minimum = updates * options.epochs, MIN_UPDATES_PRETRAINED if pretrained else MIN_UPDATES
    if total < minimum:
        smaller = f"batch={SMALL_BATCH} nbs={SMALL_BATCH} " if max(options.batch, options.nbs) > SMALL_BATCH else ""
        if smaller:
            updates = updates_per_epoch(images, SMALL_BATCH, SMALL_BATCH)
        longer = f"epochs={math.ceil(minimum / updates)} " if updates * options.epochs < minimum else ""
        yield (
            f"{(smaller + longer).strip()}: {counted(images, 'image')} at batch={options.batch} nbs={options.nbs} give "
            f"{counted(total, 'optimizer step')} in {counted(options.epochs, 'epoch')}; at least {minimum} are needed"
        )
    if pretrained and images < VERY_FEW_IMAGES and not options.freeze:
        yield f"freeze=1 (the backbone): too few images ({images}) to improve a pretrained backbone"
    if not pretrained and total < 3 * MIN_UPDATES and options.lr0 <= 1e-4:
        yield "lr0=0.0005 cos_lr=True lrf=0.05: a short run from scratch; the default is for 500,000 optimizer steps"
    if not pretrained and images < FEW_IMAGES:
        yield f"pretrained=WEIGHTS.pt (or a pretrained backbone): too few images ({images}) to train from scratch"


def _image_size(sides: np.ndarray, image_side: float, imgsz: int) -> Iterator[str]:
    """Recommend the size at which all but TINY_SHARE of the boxes fill a cell, or that of small images."""
    tiny = float((sides * imgsz < FINEST_STRIDE).mean()) if len(sides) else 0.0
    fitting = max(64, _round_up(2 * image_side, 32))
    if tiny >= TINY_SHARE:
        size = _round_up(FINEST_STRIDE / max(float(np.quantile(sides, TINY_SHARE)), 1e-6), 32)
        change = f"imgsz={size}" if size <= MAX_SIZE else "cut the images into tiles"
        yield (
            f"{change}: at {imgsz} px {tiny:.0%} of the boxes are narrower than a cell of the finest feature map, "
            f"{FINEST_STRIDE} px; {size} px would be needed, the images have {image_side:.0f} px"
        )
    elif image_side < imgsz / 2 and fitting < imgsz:
        yield f"imgsz={fitting}: the images have {image_side:.0f} px; {imgsz} px would only cost time"


def _schedule(updates: int, options: Options) -> Iterator[str]:
    epochs, closing, patience = options.epochs, options.close_mosaic, options.patience
    mixes = options.augmentation == "official" or (
        options.augmentation == "mosaic" and max(options.mosaic, options.mixup, options.cutmix, options.dense) > 0
    )
    if mixes and closing >= epochs:
        yield f"close_mosaic={epochs // 5}: {closing} switches strong augmentation off in every epoch ({epochs})"
    if 0 < patience < epochs and patience * updates < MIN_PATIENCE_UPDATES:
        steps = f"{counted(patience, 'epoch')} with {counted(patience * updates, 'optimizer step')}"
        yield f"patience=0: {steps}, too few for early stopping"


def _round_up(value: float, step: int) -> int:
    return math.ceil(round(value / step, 6)) * step
