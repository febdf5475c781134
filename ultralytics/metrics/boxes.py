"""`EvalBoxes`: detections and labels of a set of images as columns, the input of every protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np


class Detected(NamedTuple):
    """N detections by image, then descending score; equal scores keep the order of the file."""

    image: np.ndarray  # (N,) index of the image
    cls: np.ndarray  # (N,) index of the class
    score: np.ndarray  # (N,)
    box: np.ndarray  # (N, 4) x1, y1, x2, y2
    size: np.ndarray  # (N,) width times height


class Labels(NamedTuple):
    """M labels by image."""

    image: np.ndarray  # (M,)
    cls: np.ndarray  # (M,) -1: a region that is ignored for all classes
    box: np.ndarray  # (M, 4)
    size: np.ndarray  # (M,) width times height
    area: np.ndarray  # (M,) of the annotation, which may be that of a polygon
    crowd: np.ndarray  # (M,) bool
    ignored: np.ndarray  # (M,) bool; neither found nor missed, but may be matched once


class Pairs(NamedTuple):
    """P pairs of a detection and a label that overlap, by detection, then label."""

    detection: np.ndarray  # (P,)
    label: np.ndarray  # (P,)
    iou: np.ndarray  # (P,)


def select(table: tuple, rows: np.ndarray) -> tuple:
    """Return some rows of a table such as `Detected`, `Labels` or `Pairs`."""
    return type(table)(*(column[rows] for column in table))


def places(group: np.ndarray) -> np.ndarray:
    """Return the place (N,) of each element within its group, from 0, in the order of the elements."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    place = np.empty(len(group), np.int64)
    place[order] = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
    return place


def inverse(order: np.ndarray) -> np.ndarray:
    """Return the position of each element in an order."""
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return position


def overlaps(
    found: Detected | Labels, labels: Labels, nc: int, minimum: float, *, same_class: bool = True, eps: float = 0.0
) -> Pairs:
    """List the pairs of the same image, and class, whose IoU is at least `minimum`.

    For crowd regions, the intersection is divided by the area of the detection alone, as in COCO.

    Args:
        found, labels: IoU has the precision of their boxes.
        nc: number of classes.
        eps: added to the union.
    """
    keys, wanted = found.image, labels.image
    if same_class:
        keys, wanted = found.image * nc + found.cls, np.where(labels.cls < 0, -1, labels.image * nc + labels.cls)
    order = np.argsort(keys, kind="stable")
    starts, ends = (np.searchsorted(keys, wanted, side, sorter=order) for side in ("left", "right"))
    counts = ends - starts
    label = np.repeat(np.arange(len(counts)), counts)
    detection = order[np.arange(len(label)) - np.repeat(counts.cumsum() - counts - starts, counts)]

    (x1, y1, x2, y2), (u1, v1, u2, v2) = found.box.T, labels.box.T
    width = np.minimum(x2[detection], u2[label]) - np.maximum(x1[detection], u1[label])
    near = np.flatnonzero(width > 0)  # most pairs are apart
    detection, label, width = detection[near], label[near], width[near]
    height = np.minimum(y2[detection], v2[label]) - np.maximum(y1[detection], v1[label])
    shared = width * height.clip(0)
    crowd = labels.crowd[label]
    union = found.size[detection] + np.where(crowd, 0, labels.size[label]) - np.where(crowd, 0, shared)
    iou = shared / np.maximum(union + np.asarray(eps, union.dtype), np.finfo(union.dtype).tiny)
    kept = np.flatnonzero((iou >= minimum) & (height > 0))
    kept = kept[np.argsort(detection[kept], kind="stable")]
    return Pairs(detection[kept], label[kept], iou[kept])


@dataclass(frozen=True)
class EvalBoxes:
    """Detections and labels of I images.

    The order of detections, their places and the overlapping pairs are computed once, for all protocols.
    """

    ids: Sequence[int | str]  # (I,)
    names: dict[int, str]  # by class index
    found: Detected
    labels: Labels
    files: Sequence[str] = ()  # (I,) where known

    @classmethod
    def build(
        cls, ids: Sequence[int | str], names: dict[int, str], found: Sequence[np.ndarray], labels: Sequence[np.ndarray],
        files: Sequence[str] = (),
    ) -> EvalBoxes:  # fmt: skip
        """Build from columns with boxes as x, y, width, height, in any order.

        Args:
            found: image, cls, score, box (N, 4).
            labels: image, cls, box (M, 4), area, crowd, ignored.
        """
        image, kind, score, box = found
        step = np.diff(image)
        ordered = ((step > 0) | ((step == 0) & (np.diff(score) <= 0))).all()  # as those of a validation
        order = slice(None) if ordered else np.lexsort((-score, image))  # stable
        detected = Detected(image[order], kind[order], score[order], *_corners(box[order]))
        image, kind, box, *rest = (column[np.argsort(labels[0], kind="stable")] for column in labels)
        return cls(ids, names, detected, Labels(image, kind, *_corners(box), *rest), files)

    def with_rows(self, found: np.ndarray | None = None, labels: np.ndarray | None = None) -> EvalBoxes:
        """Return a copy with some rows, by masks (N,) and (M,)."""
        kept = {} if found is None else {"found": select(self.found, found)}
        return replace(self, **kept, **({} if labels is None else {"labels": select(self.labels, labels)}))

    @cached_property
    def by_class(self) -> np.ndarray:
        """Return detections (N,) by class, then descending score, then id of the image, as pycocotools sorts them."""
        by_id = sorted(range(len(self.ids)), key=lambda i: (isinstance(self.ids[i], str), self.ids[i]))
        order = np.lexsort((inverse(np.array(by_id, np.int64))[self.found.image], -self.found.score))
        kind = np.int16 if len(self.names) < 1 << 15 else np.int64  # sorted in one pass
        return order[np.argsort(self.found.cls[order].astype(kind), kind="stable")]

    @cached_property
    def position(self) -> np.ndarray:
        """Return the position (N,) of each detection in `by_class`."""
        return inverse(self.by_class)

    @cached_property
    def place(self) -> np.ndarray:
        """Return the place (N,) of each detection among those of its class in its image, from 0."""
        return places(self.found.image * len(self.names) + self.found.cls)

    @cached_property
    def ignored(self) -> np.ndarray:
        """Return whether a label (M,) is a crowd or an ignored region, which is neither found nor missed."""
        return self.labels.crowd | self.labels.ignored | (self.labels.cls < 0)

    @cached_property
    def pairs(self) -> Pairs:
        """Return pairs of a detection and a label of its image and class with an IoU of at least one half."""
        return overlaps(self.found, self.labels, len(self.names), 0.5)


def _corners(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x1, y1, x2, y2 and the size of boxes x, y, width, height."""
    return np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], 1), box[:, 2] * box[:, 3]
