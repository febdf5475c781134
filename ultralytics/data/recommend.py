"""Recommend training options from statistics of the data: few, crowded or tiny objects need other than the defaults.

The defaults are those of the paper for COCO (118,000 images). docs/en/data.md lists the conditions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ultralytics.cfg.options import Options
from ultralytics.data.labels import ImageLabels

FEW_IMAGES = 1000  # too few to train from scratch
VERY_FEW_IMAGES = 200  # too few to train a pretrained backbone
MIN_UPDATES = 3000  # optimizer steps of a run from scratch; the paper's on COCO has 500,000
MIN_UPDATES_PRETRAINED = 1000
SMALL_BATCH = 4  # for more updates per epoch
MIN_QUERIES = 50
QUERIES_PER_BOX = 5  # of the busiest image, if the default is more than MAX_QUERIES_PER_BOX
MAX_QUERIES_PER_BOX = 10
FINEST_STRIDE = 8  # pixels per cell of the finest feature map of the decoder
TINY_SHARE = 0.2  # of all boxes
MAX_SIZE = 1280
STRIDE = 32
MIN_PATIENCE_UPDATES = 500  # optimizer steps without progress before early stopping


@dataclass(frozen=True)
class DataStats:
    """Statistics of the training images and the run."""

    images: int
    max_boxes: int  # of one image
    short_sides: np.ndarray  # (boxes,) shorter side of each box as a fraction of the stretched image
    long_side: float  # median of the longer sides of the images, in pixels
    updates: int  # optimizer steps per epoch


def recommend_options(labels: Sequence[ImageLabels], options: Options, *, queries: int, pretrained: bool) -> list[str]:
    """Return lines of `option=value: reason` for a training run; empty if nothing is unusual.

    `labels` are those of at least one training image, `queries` the object queries of the decoder, and `pretrained`
    is whether the backbone starts from weights.
    """
    boxes = [item.boxes[~item.crowd] for item in labels]
    stats = DataStats(
        images=len(labels),
        max_boxes=max(map(len, boxes), default=0),
        short_sides=np.concatenate([np.zeros(0), *(part[:, 2:].min(axis=1) for part in boxes if len(part))]),
        long_side=float(np.median([max(item.shape) for item in labels])),
        updates=updates_per_epoch(len(labels), options.batch, options.nbs),
    )
    lines = [*_queries(stats, options, queries), *_start(stats, options, pretrained)]
    return [*lines, *_image_size(stats, options), *_schedule(stats, options)]


def updates_per_epoch(images: int, batch: int, nbs: int) -> int:
    """Return the optimizer steps per epoch; a batch below the nominal one `nbs` accumulates gradients up to it."""
    return math.ceil(math.ceil(images / batch) / max(round(nbs / batch), 1))


def _queries(stats: DataStats, options: Options, queries: int) -> Iterator[str]:
    fewer = max(MIN_QUERIES, _round_up(QUERIES_PER_BOX * stats.max_boxes, 10))
    if stats.max_boxes > queries:
        more = _round_up(1.5 * stats.max_boxes, 50)
        max_det = f" max_det={more}" if options.max_det < stats.max_boxes else ""
        yield (
            f"queries={more}{max_det}: an image has {stats.max_boxes} boxes, and {queries} queries find at most "
            f"{queries} objects"
        )
    elif stats.images < FEW_IMAGES and queries > max(MAX_QUERIES_PER_BOX * stats.max_boxes, fewer):
        boxes = f"{stats.max_boxes} box{'' if stats.max_boxes == 1 else 'es'}"
        yield f"queries={fewer}: the busiest image has {boxes}; most of {queries} queries would only cost time"


def _start(stats: DataStats, options: Options, pretrained: bool) -> Iterator[str]:
    """Recommend more updates, a higher rate, pretrained weights or a frozen backbone for few images."""
    total, minimum = stats.updates * options.epochs, MIN_UPDATES_PRETRAINED if pretrained else MIN_UPDATES
    images = f"{stats.images} image{'' if stats.images == 1 else 's'}"
    if total < minimum:
        changes, per_epoch = [], stats.updates
        if max(options.batch, options.nbs) > SMALL_BATCH:
            changes.append(f"batch={SMALL_BATCH} nbs={SMALL_BATCH}")
            per_epoch = updates_per_epoch(stats.images, SMALL_BATCH, SMALL_BATCH)
        if per_epoch * options.epochs < minimum:
            changes.append(f"epochs={math.ceil(minimum / per_epoch)}")
        needed = f"{'fine-tuning' if pretrained else 'training from scratch'} needs at least {minimum}"
        yield (
            f"{' '.join(changes)}: {images} at batch={options.batch} nbs={options.nbs} give {total} optimizer steps in "
            f"{options.epochs} epochs; {needed}"
        )
    if not pretrained and total < 3 * MIN_UPDATES and options.lr0 <= 1e-4:
        yield (
            "lr0=0.0005 cos_lr=True lrf=0.05: a short run from scratch; the default rate is for a pretrained backbone "
            "and 500,000 optimizer steps"
        )
    if not pretrained and stats.images < FEW_IMAGES:
        yield f"pretrained=WEIGHTS.pt (or a pretrained backbone): {images} are too few to train from scratch"
    if pretrained and stats.images < VERY_FEW_IMAGES and not options.freeze:
        yield f"freeze=1 (the backbone): {images} are too few to improve a pretrained backbone, and steps become faster"


def _image_size(stats: DataStats, options: Options) -> Iterator[str]:
    tiny = float(np.mean(stats.short_sides * options.imgsz < FINEST_STRIDE)) if len(stats.short_sides) else 0.0
    if tiny >= TINY_SHARE:
        # the size at which all but TINY_SHARE of the boxes fill a cell
        size = _round_up(FINEST_STRIDE / max(float(np.quantile(stats.short_sides, TINY_SHARE)), 1e-6), STRIDE)
        fact = (
            f"at {options.imgsz} px {tiny:.0%} of the boxes are narrower than a cell of the finest feature map, "
            f"{FINEST_STRIDE} px"
        )
        if size > MAX_SIZE:
            change = "cut the images into tiles" if options.imgsz >= MAX_SIZE else f"imgsz={MAX_SIZE} and tiles"
            yield f"{change}: {fact}; {size} px would be needed"
        else:
            yield f"imgsz={size}: {fact}{' (the images have no more detail)' if stats.long_side < size else ''}"
    elif stats.long_side < options.imgsz / 2:
        size = max(64, _round_up(2 * stats.long_side, STRIDE))
        if size < options.imgsz:
            yield f"imgsz={size}: the images have {stats.long_side:.0f} px; {options.imgsz} px would only cost time"


def _schedule(stats: DataStats, options: Options) -> Iterator[str]:
    if options.augmentation != "none" and options.close_mosaic >= options.epochs:
        yield (
            f"close_mosaic={options.epochs // 5}: {options.close_mosaic} switches strong augmentation off in all "
            f"{options.epochs} epochs"
        )
    updates = options.patience * stats.updates
    if options.patience and options.patience < options.epochs and updates < MIN_PATIENCE_UPDATES:
        yield f"patience=0: {options.patience} epochs are only {updates} optimizer steps, too few for early stopping"


def _round_up(value: float, step: int) -> int:
    return math.ceil(round(value / step, 6)) * step
