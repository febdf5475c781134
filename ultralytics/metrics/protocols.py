"""Rules of evaluation: what counts as found, on which objects, and how precision is averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ultralytics.metrics.ap import AREA, TRAPEZOID, average_precisions, rank_true_positives
from ultralytics.metrics.boxes import EvalBoxes, Pairs, overlaps, places, select
from ultralytics.metrics.matching import EPS, IOU_THRESHOLDS, assign
from ultralytics.utils.errors import OptionError, did_you_mean

ABSENT = -1.0  # value of a metric without objects, as in COCO
LARGEST = 1e5**2
COCO_AREAS = {"s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, LARGEST)}
TINY_AREAS = {"vt": (0, 8**2), "t": (8**2, 16**2), "s": (16**2, 32**2), "m": (32**2, LARGEST)}
IGNORED_NAMES = ("ignored regions", "ignored region", "ignored", "ignore")  # classes of VisDrone's regions
SHARE_IGNORED = 0.5  # of a detection's area, beyond which VisDrone drops it


@dataclass(frozen=True)
class Protocol:
    """Rules of an evaluation; areas are in square pixels of the original image."""

    name: str  # in every table, CSV and JSON
    iou: tuple[float, ...] = tuple(IOU_THRESHOLDS.tolist())  # AP is the mean over them
    areas: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # object sizes: name, bounds (inclusive)
    limits: tuple[int, ...] = (1, 10, 100)  # highest numbers of detections; the last one is that of AP
    per_image: bool = False  # limits are for an image, else for a class of an image
    crowds: bool = True  # a crowd region may match any number of detections, which are ignored; else it is left out
    ignore: bool = False  # labels with `ignore` (VOC: difficult) are neither found nor missed
    regions: bool = False  # what is inside labels of IGNORED_NAMES, whatever its class, is left out first
    second_choice: bool = True  # a detection whose best label is taken may match another one
    last: bool = True  # of labels with equal IoU the last has priority
    integration: str = "101 points"  # a key of `ap.GRIDS`, or TRAPEZOID or AREA
    single: bool = False  # IoU in single precision with 1e-7 added to the union


VOC = Protocol("voc", (0.5,), limits=(10**9,), second_choice=False, last=False, integration=AREA, ignore=True)
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "ultralytics", limits=(300,), per_image=True, crowds=False, last=False, integration=TRAPEZOID, single=True,
        ),
        Protocol("coco", areas=COCO_AREAS),
        Protocol("aitod", areas=TINY_AREAS, limits=(1, 100, 1500)),
        Protocol("visdrone", limits=(1, 10, 100, 500), per_image=True, ignore=True, regions=True, integration=AREA),
        VOC,
        replace(VOC, name="voc07", integration="11 points"),
    )
}  # fmt: skip


def find_protocol(
    name: str, areas: Mapping[str, tuple[float, float]] | None = None, limit: int | None = None
) -> Protocol:
    """Return the protocol of this name, with the areas and the limit of a data YAML in place of its own."""
    if name not in PROTOCOLS:
        hint = did_you_mean(name, PROTOCOLS) or f"; expected {', '.join(PROTOCOLS)}"
        raise OptionError(f"protocol={name!r}: no such protocol{hint}")
    protocol = PROTOCOLS[name]
    if areas:
        protocol = replace(protocol, name=f"{name}, areas of the data", areas=dict(areas))
    if limit:
        limits = tuple(n for n in protocol.limits if n < limit)
        protocol = replace(protocol, name=f"{protocol.name}, limit {limit}", limits=(*limits, limit))
    return protocol


@dataclass(frozen=True)
class Evaluation:
    """Result of a protocol for K classes with labels, T thresholds and A sizes, `all` first; nan without objects."""

    protocol: Protocol
    names: dict[int, str]
    labels: np.ndarray  # (nc,) objects of each class that count
    ap: np.ndarray  # (A, nc, T)
    recall: np.ndarray  # (A, limits, nc, T) highest recall
    precision: np.ndarray | None  # (A, nc, T, R) at the recalls of a grid

    @property
    def stats(self) -> dict[str, float]:
        """Means over the classes by their usual names (AP, AP50, AP75, APs, AR1, ARs); -1 without objects."""
        p = self.protocol
        rows = {"AP": self.ap[0]} if len(p.iou) > 1 else {}
        rows |= {f"AP{round(100 * t)}": self.ap[0][:, i] for i, t in enumerate(p.iou) if round(t, 6) in (0.5, 0.75)}
        rows |= {f"AP{size}": self.ap[i] for i, size in enumerate(p.areas, 1)}
        rows |= {f"AR{limit}" if limit < 10**9 else "AR": self.recall[0, i] for i, limit in enumerate(p.limits)}
        rows |= {f"AR{size}": self.recall[i, -1] for i, size in enumerate(p.areas, 1)}
        return {title: _mean(values) for title, values in rows.items()}

    @property
    def sizes(self) -> dict[str, np.ndarray]:
        """AP (nc,) of each class by title: overall, and by size; nan without objects."""
        p, means = self.protocol, self.ap.mean(2)
        return {f"{p.name} AP{size}": ap for size, ap in zip(("", *p.areas), means, strict=True)}

    def __str__(self) -> str:
        cells = [f"{key:<8}{f'{value:.3f}' if value >= 0 else '-':5}" for key, value in self.stats.items()]
        lines = ["   ".join(cells[start : start + 3]).rstrip() for start in range(0, len(cells), 3)]
        return "\n".join([f"Protocol {self.protocol.name}", *lines])

    def class_rows(self) -> dict[str, dict[str, float]]:
        """Return AP, AP50, AP75 and AP by size for each class with labels."""
        rows = {}
        for c in np.flatnonzero(self.labels):
            own = replace(self, ap=self.ap[:, [c]], recall=self.recall[:, :, [c]])
            rows[self.names[int(c)]] = {k: v for k, v in own.stats.items() if not k.startswith("AR")}
        return rows


def _mean(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else ABSENT


def evaluate(boxes: EvalBoxes, protocol: Protocol) -> Evaluation:
    """Compute AP and recall of detections by the rules of a protocol."""
    p, nc = protocol, len(boxes.names)
    if p.regions:
        boxes = drop_regions(boxes)
    if not p.crowds and boxes.labels.crowd.any():
        boxes = boxes.with_rows(labels=~boxes.labels.crowd)
    found, labels = boxes.found, boxes.labels
    place = places(found.image) if p.per_image else boxes.place
    kept = place < p.limits[-1]
    pairs = single_precision(boxes) if p.single else boxes.pairs
    pairs = select(pairs, kept[pairs.detection])
    match = partial(assign, pairs, p.iou, last=p.last, second_choice=p.second_choice)

    bounds = [(0.0, LARGEST), *p.areas.values()]
    excluded = labels.crowd | labels.ignored if p.ignore else labels.crowd
    ap = np.full((len(bounds), nc, len(p.iou)), np.nan)
    recall = np.full((len(bounds), len(p.limits), nc, len(p.iou)), np.nan)
    precision = None
    for a, (low, high) in enumerate(bounds):
        ignored = excluded | (labels.area < low) | (labels.area > high)
        matches = match(ignored=ignored, reusable=labels.crowd if p.second_choice else ignored)
        counted = kept & (found.size >= low) & (found.size <= high)
        positives = np.bincount(labels.cls[~ignored & (labels.cls >= 0)], minlength=nc)
        classes = np.flatnonzero(positives)
        order = boxes.by_class, boxes.position
        true = rank_true_positives(*order, found.cls, counted, matches, ignored, classes, len(p.iou))
        ap[a, classes], curve = average_precisions(true, positives[classes], len(p.iou), p.integration)
        if curve is not None:
            precision = np.full((len(bounds), nc, *curve.shape[1:]), np.nan) if precision is None else precision
            precision[a, classes] = curve
        for i, limit in enumerate(p.limits):
            among = true.segment[place[true.detection] < limit]
            counts = np.bincount(among, minlength=len(classes) * len(p.iou)).reshape(-1, len(p.iou))
            recall[a, i, classes] = counts / positives[classes, None]
    counts = np.bincount(labels.cls[~excluded & (labels.cls >= 0)], minlength=nc)
    return Evaluation(p, boxes.names, counts, ap, recall, precision)


def single_precision(boxes: EvalBoxes) -> Pairs:
    """Return pairs with an IoU in single precision, as the published package computes it."""
    tables = []
    for table in (boxes.found, boxes.labels):
        x1, y1, x2, y2 = box = table.box.astype(np.float32).T
        tables.append(table._replace(box=box.T, size=(x2 - x1) * (y2 - y1)))
    return overlaps(*tables, len(boxes.names), 0.5, eps=EPS)


def drop_regions(boxes: EvalBoxes) -> EvalBoxes:
    """Leave out what has more than half of its area in regions that are ignored for all classes, and the regions."""
    unnamed = [c for c, name in boxes.names.items() if name.strip().lower() in IGNORED_NAMES]
    regions = (boxes.labels.cls < 0) | np.isin(boxes.labels.cls, unnamed)
    if not regions.any():
        return boxes
    places_of = select(boxes.labels, regions)
    places_of = places_of._replace(crowd=np.ones(len(places_of.image), bool))  # overlaps relative to the other box
    outside = []
    for table in (boxes.found, boxes.labels):
        pairs = overlaps(table, places_of, len(boxes.names), 0, same_class=False)
        outside.append(np.bincount(pairs.detection, pairs.iou, len(table.image)) <= SHARE_IGNORED)
    return boxes.with_rows(outside[0], outside[1] & ~regions)


CAUSES = {  # fields of a protocol, by what they change
    "IoU in single or double precision": ("single",),
    "which of two labels with equal IoU is matched": ("last",),
    "crowd regions and ignored labels": ("crowds", "ignore", "regions"),
    "a second choice if the best label is taken": ("second_choice",),
    "highest number of detections": ("limits", "per_image"),
    "IoU thresholds": ("iou",),
    "how precision is averaged over recall": ("integration",),
}


def explain_difference(boxes: EvalBoxes, first: Protocol, second: Protocol) -> list[tuple[str, float, float]]:
    """Change the rules of `first` to those of `second` one after another; the sum of the steps is the difference.

    Returns:
        What was changed, AP50 and AP after the change; the first row has the rules of `first`.
    """
    rows, now = [], replace(first, areas={})
    for cause, fields in {first.name: (), **CAUSES}.items():
        changes = {name: getattr(second, name) for name in fields}
        if any(changes[name] != getattr(now, name) for name in fields) or not fields:
            now = replace(now, **changes)
            stats = evaluate(boxes, now).stats
            rows.append((cause, stats["AP50"], stats.get("AP", stats["AP50"])))
    return rows
