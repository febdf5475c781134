"""What the data suggests about the options of a training run: small, crowded or tiny things the defaults are not for.

The defaults are those of the paper for COCO (118,000 images). Each rule looks at one fact and answers with
`option=value: reason`, or with nothing where nothing is unusual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ultralytics.data.labels import ImageLabels

FEW_IMAGES = 1000  # below, a network trained from scratch learns the images rather than the classes
VERY_FEW_IMAGES = 200  # below, the backbone is better left as it was pretrained
FEW_UPDATES = 3000  # of the weights in a run from scratch; the paper's on COCO has 500,000
FEW_UPDATES_PRETRAINED = 1000
SMALL_BATCH = 4  # gives a small data set more updates in an epoch
FEWEST_QUERIES = 50
QUERIES_PER_BOX = 5  # of the busiest image, when there are fewer of them than the default
SPARE_QUERIES = 10  # per box of the busiest image: more than this many are too many
FINEST_STRIDE = 8  # pixels of a cell of the finest map the decoder sees
TINY_SHARE = 0.2  # of all boxes
LARGEST_SIZE = 1280
STRIDE = 32
PATIENT_UPDATES = 500  # without progress, at least, before a run should be given up


class AdviceOptions(Protocol):
    """The options that are read here; see cfg/default.yaml."""

    imgsz: int
    batch: int
    nbs: int
    epochs: int
    patience: int
    lr0: float
    freeze: int | list | None
    augmentation: str
    close_mosaic: int
    max_det: int


@dataclass(frozen=True)
class Facts:
    """What the rules look at."""

    images: int
    most_boxes: int  # of one image
    short_sides: np.ndarray  # (boxes,) shorter side of each box as a share of the stretched image
    long_side: float  # median of the longer sides of the images, in pixels
    queries: int
    pretrained: bool
    updates: int  # of the weights in an epoch

    @classmethod
    def of(cls, labels: Sequence[ImageLabels], options: AdviceOptions, queries: int, pretrained: bool) -> Facts:
        """Collect them from the labels that are trained on; crowd regions do not count."""
        boxes = [item.boxes[~item.crowd] for item in labels]
        return cls(
            images=len(labels),
            most_boxes=max(map(len, boxes), default=0),
            short_sides=np.concatenate([np.zeros(0), *(part[:, 2:].min(axis=1) for part in boxes if len(part))]),
            long_side=float(np.median([max(item.shape) for item in labels])),
            queries=queries,
            pretrained=pretrained,
            updates=updates_per_epoch(len(labels), options.batch, options.nbs),
        )


def small_data_advice(
    labels: Sequence[ImageLabels], options: AdviceOptions, *, queries: int, pretrained: bool
) -> list[str]:
    """Lines of `option=value: reason` for a training run; empty where nothing is unusual.

    Args:
        labels: of the training images (`DetectionDataset.labels`), at least one.
        options: of the run.
        queries: object queries of the network's decoder.
        pretrained: whether the backbone starts from weights.
    """
    facts = Facts.of(labels, options, queries, pretrained)
    return [line for rule in RULES if (line := rule(facts, options)) is not None]


def updates_per_epoch(images: int, batch: int, nbs: int) -> int:
    """Steps of the optimiser in an epoch; a batch below the nominal one `nbs` sums its gradients up to it."""
    batches = math.ceil(images / batch)
    return math.ceil(batches / max(round(nbs / batch), 1))


def too_few_queries(facts: Facts, options: AdviceOptions) -> str | None:
    if facts.most_boxes <= facts.queries:
        return None
    wanted = _round_up(1.5 * facts.most_boxes, 50)
    more = f" max_det={wanted}" if options.max_det < facts.most_boxes else ""
    return (
        f"queries={wanted}{more}: an image has {facts.most_boxes} boxes, and {facts.queries} queries find "
        f"{facts.queries} objects at most"
    )


def too_many_queries(facts: Facts, options: AdviceOptions) -> str | None:
    wanted = max(FEWEST_QUERIES, _round_up(QUERIES_PER_BOX * facts.most_boxes, 10))
    if facts.images >= FEW_IMAGES or facts.queries <= max(SPARE_QUERIES * facts.most_boxes, wanted):
        return None
    busiest = _count(facts.most_boxes, "box", "boxes")
    return (
        f"queries={wanted}: the busiest image has {busiest}; {facts.queries} queries cost time, and nearly all of them "
        "only learn to find nothing"
    )


def too_short(facts: Facts, options: AdviceOptions) -> str | None:
    updates, needed = facts.updates * options.epochs, FEW_UPDATES_PRETRAINED if facts.pretrained else FEW_UPDATES
    if updates >= needed:
        return None
    changes, per_epoch = [], facts.updates
    if max(options.batch, options.nbs) > SMALL_BATCH:
        changes.append(f"batch={SMALL_BATCH} nbs={SMALL_BATCH}")
        per_epoch = updates_per_epoch(facts.images, SMALL_BATCH, SMALL_BATCH)
    if per_epoch * options.epochs < needed:
        changes.append(f"epochs={math.ceil(needed / per_epoch)}")
    start = "after pretraining" if facts.pretrained else "from scratch"
    return (
        f"{' '.join(changes)}: {_images(facts)} at batch={options.batch} nbs={options.nbs} give {updates} updates of "
        f"the weights in {options.epochs} epochs; {start} some {needed} and more are needed"
    )


def too_slow(facts: Facts, options: AdviceOptions) -> str | None:
    if facts.pretrained or facts.updates * options.epochs >= 3 * FEW_UPDATES or options.lr0 > 1e-4:
        return None
    return (
        "lr0=0.0005 cos_lr=True lrf=0.05: a short run from scratch; the paper's rate is meant for a pretrained "
        "backbone and 500,000 updates"
    )


def from_scratch(facts: Facts, options: AdviceOptions) -> str | None:
    if facts.pretrained or facts.images >= FEW_IMAGES:
        return None
    return (
        f"pretrained=WEIGHTS.pt (or a model whose backbone brings weights): the network starts from random numbers, "
        f"and {_images(facts)} can teach it little"
    )


def frozen_backbone(facts: Facts, options: AdviceOptions) -> str | None:
    if not facts.pretrained or facts.images >= VERY_FEW_IMAGES or options.freeze:
        return None
    return (
        f"freeze=1 (the rows of the backbone): {_images(facts)} can teach a pretrained backbone little, and "
        "without its gradients a step is cheaper"
    )


def tiny_boxes(facts: Facts, options: AdviceOptions) -> str | None:
    if not len(facts.short_sides):
        return None
    share = float(np.mean(facts.short_sides * options.imgsz < FINEST_STRIDE))
    if share < TINY_SHARE:
        return None
    # The size at which all but TINY_SHARE of the boxes fill a cell.
    quantile = max(float(np.quantile(facts.short_sides, TINY_SHARE)), 1e-6)
    size = _round_up(FINEST_STRIDE / quantile, STRIDE)
    fact = (
        f"at {options.imgsz} px {share:.0%} of the boxes are narrower than a cell of the finest map, {FINEST_STRIDE} px"
    )
    if size > LARGEST_SIZE:
        advice = "cut the images into tiles" if options.imgsz >= LARGEST_SIZE else f"imgsz={LARGEST_SIZE} and tiles"
        return f"{advice}: {fact}; {size} px would be needed"
    enlarged = " (the images themselves have no more detail, so expect less of it)" if facts.long_side < size else ""
    return f"imgsz={size}: {fact}{enlarged}"


def enlarged_images(facts: Facts, options: AdviceOptions) -> str | None:
    if facts.long_side >= options.imgsz / 2 or tiny_boxes(facts, options):
        return None
    size = max(64, _round_up(2 * facts.long_side, STRIDE))
    if size >= options.imgsz:
        return None
    return (
        f"imgsz={size}: the images have {facts.long_side:.0f} px; enlarging them to {options.imgsz} px costs time and "
        "shows nothing more"
    )


def never_strong(facts: Facts, options: AdviceOptions) -> str | None:
    if options.augmentation == "none" or options.close_mosaic < options.epochs:
        return None
    return (
        f"close_mosaic={options.epochs // 5}: the last {options.close_mosaic} epochs are without strong augmentation, "
        f"and there are only {options.epochs}"
    )


def impatient(facts: Facts, options: AdviceOptions) -> str | None:
    updates = options.patience * facts.updates
    if not options.patience or options.patience >= options.epochs or updates >= PATIENT_UPDATES:
        return None
    return (
        f"patience=0: {options.patience} epochs without progress are only {updates} updates of the weights, too few to "
        "give up"
    )


Rule = Callable[[Facts, AdviceOptions], str | None]
RULES: tuple[Rule, ...] = (
    too_few_queries,
    too_many_queries,
    too_short,
    too_slow,
    from_scratch,
    frozen_backbone,
    tiny_boxes,
    enlarged_images,
    never_strong,
    impatient,
)


def _images(facts: Facts) -> str:
    return _count(facts.images, "image", "images")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _round_up(value: float, step: int) -> int:
    return math.ceil(round(value / step, 6)) * step
