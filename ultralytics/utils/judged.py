"""Detections of many images, judged against the labels: which are right at which overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ultralytics.utils.confusion import ConfusionMatrix
from ultralytics.utils.dist import interleave
from ultralytics.utils.matching import IOU_THRESHOLDS, match_pairs, paired_iou, pairs_of_groups

BLOCK = 65_536  # detections that are judged at once: enough for NumPy to be fast, few enough for the processor's caches


class Waiting(NamedTuple):
    """What is to be judged: I images, N detections, of each image the best first, and M labels."""

    counts: np.ndarray  # (I,) int64: detections of each image
    rows: np.ndarray  # (N, 6) float32: x1, y1, x2, y2, score, class
    image: np.ndarray  # (M,) int64: position in `counts`
    boxes: np.ndarray  # (M, 4) float32: x1, y1, x2, y2
    cls: np.ndarray  # (M,) int64


class Judged(NamedTuple):
    """The outcome, without boxes: ten bytes a detection, where hits are rare."""

    counts: np.ndarray  # (I,) int64: detections of each image
    conf: np.ndarray  # (N,) float32
    cls: np.ndarray  # (N,) int32
    row: np.ndarray  # (H,) int64: detection of each hit
    column: np.ndarray  # (H,) int64: its IoU threshold

    @property
    def tp(self) -> np.ndarray:
        """(N, 10) bool: right at each IoU threshold."""
        tp = np.zeros((len(self.conf), len(IOU_THRESHOLDS)), bool)
        tp[self.row, self.column] = True
        return tp


def judge(waiting: Sequence[Waiting], confusion: ConfusionMatrix) -> Judged:
    """Match detections with labels of their class; `confusion` counts them, whatever their class."""
    offsets = np.cumsum([0, *(len(part.counts) for part in waiting)])
    image = np.concatenate([part.image + offset for part, offset in zip(waiting, offsets, strict=False)])
    counts, rows, _, boxes, cls = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
    images, nc = len(counts), confusion.nc
    owner = np.repeat(np.arange(images), counts)  # (N,)
    pred_cls = rows[:, 5].astype(np.int64)

    detection, label = pairs_of_groups(owner * nc + pred_cls, image * nc + cls, images * nc)
    matched = match_pairs(detection, label, paired_iou(rows[detection, :4], boxes[label]), IOU_THRESHOLDS)
    row = detection[np.concatenate(matched)]
    column = np.repeat(np.arange(len(matched)), [len(pairs) for pairs in matched])

    sure = np.flatnonzero(rows[:, 4] > confusion.conf)
    detection, label = pairs_of_groups(owner[sure], image, images)
    iou = paired_iou(rows[sure[detection], :4], boxes[label])
    (pairs,) = match_pairs(detection, label, iou, [confusion.iou])
    found = np.full(len(sure), -1)
    found[detection[pairs]] = label[pairs]
    confusion.count(found, pred_cls[sure], cls)
    return Judged(counts, rows[:, 4].copy(), pred_cls.astype(np.int32), row, column)


def one_after_the_other(parts: Sequence[Judged]) -> Judged:
    """Several as one; nothing at all when there are none."""
    if not parts:
        none = np.zeros(0, np.int64)
        return Judged(none, none.astype(np.float32), none.astype(np.int32), none, none)
    offsets = np.cumsum([0, *(len(part.conf) for part in parts)])
    row = np.concatenate([part.row + offset for part, offset in zip(parts, offsets, strict=False)])
    counts, conf, cls, _, column = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Judged(counts, conf, cls, row, column)


def dealt_out(parts: Sequence[Judged], block: int) -> Judged:
    """Several as one, the images in the order they had before blocks of `block` were dealt out in turn."""
    whole = one_after_the_other(parts)
    ends = np.cumsum(whole.counts)
    starts = ends - whole.counts
    images = np.split(np.arange(len(whole.counts)), np.cumsum([len(part.counts) for part in parts])[:-1])
    order = np.array(interleave([part.tolist() for part in images], block), np.int64)
    counts = whole.counts[order]
    new_starts = np.empty_like(starts)
    new_starts[order] = np.cumsum(counts) - counts
    moved = np.repeat(starts[order] - (np.cumsum(counts) - counts), counts) + np.arange(len(whole.conf))
    image = np.searchsorted(ends, whole.row, side="right")  # of each hit
    row = whole.row + (new_starts - starts)[image]
    return Judged(counts, whole.conf[moved], whole.cls[moved], row, whole.column)
