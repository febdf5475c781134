"""Greedy matching of detections and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ultralytics.metrics.confusion import ConfusionMatrix
from ultralytics.utils.ops import bbox_iou

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


class MatchedDetections(NamedTuple):
    """N detections in the order of their images, after matching."""

    image: np.ndarray  # (N,) int64
    tp: np.ndarray  # (N, 10) bool, whether a detection is a true positive at each of IOU_THRESHOLDS
    conf: np.ndarray  # (N,) float32
    cls: np.ndarray  # (N,) int64


def match_detections(
    owner: np.ndarray, rows: Tensor, image: np.ndarray, boxes: Tensor, cls: np.ndarray, confusion: ConfusionMatrix
) -> MatchedDetections:
    """Match the detections of a batch with labels of their class, and add them to `confusion`.

    Args:
        owner, rows: (N,) image and (N, 6) x1, y1, x2, y2, score, class; by image, then descending score.
        image, boxes, cls: (M,) image, (M, 4) x1, y1, x2, y2 and (M,) class of the labels.
        confusion: counts matches whatever their class.
    """
    conf, pred_cls = rows[:, 4].numpy(), rows[:, 5].numpy().astype(np.int64)

    # true positives: pairs of the same image and class
    pairs = _overlaps(rows, boxes, (owner[:, None] == image) & (pred_cls[:, None] == cls))
    tp = np.zeros((len(rows), len(IOU_THRESHOLDS)), bool)
    for column, (detection, _) in enumerate(match_pairs(*pairs)):
        tp[detection, column] = True

    # confusion matrix: pairs of the same image
    confident = np.flatnonzero(conf > confusion.conf)
    pairs = _overlaps(rows[confident], boxes, owner[confident, None] == image)
    ((detection, label),) = match_pairs(*pairs, [confusion.iou])
    found = np.full(len(confident), -1)
    found[detection] = label
    confusion.count(found, pred_cls[confident], cls)
    return MatchedDetections(owner, tp, conf.copy(), pred_cls)


def _overlaps(rows: Tensor, boxes: Tensor, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the pairs that are True in `candidate` (N, M): detection, label and IoU, each (P,)."""
    detection, label = np.nonzero(candidate)
    return detection, label, bbox_iou(rows[detection, :4], boxes[label], xywh=False).squeeze(-1).numpy()


def match_pairs(
    prediction: np.ndarray, label: np.ndarray, iou: np.ndarray, thresholds: Sequence[float] = IOU_THRESHOLDS
) -> list[tuple[list[int], list[int]]]:
    """Match each prediction, by descending confidence, with the free label of the highest IoU.

    Args:
        prediction, label, iou: (P,) candidate pairs, by `prediction`, then `label`, ascending. Indices are unique over
            the images; predictions of an image are by descending confidence.
        thresholds: minimum overlaps; each is matched independently.

    Returns:
        Predictions and their labels, for each threshold.
    """
    order = np.lexsort((-iou, prediction))  # the first label of equal overlaps
    prediction, label, iou = prediction[order], label[order], iou[order]
    matches = []
    for threshold in np.asarray(thresholds, iou.dtype):
        likely = iou >= threshold
        label_of: dict[int, int] = {}
        taken = set()
        for one, other in zip(prediction[likely].tolist(), label[likely].tolist(), strict=True):
            if one not in label_of and other not in taken:
                label_of[one] = other
                taken.add(other)
        matches.append((list(label_of), list(label_of.values())))
    return matches


def concatenate(parts: Sequence[MatchedDetections]) -> MatchedDetections:
    """Concatenate the detections of several parts."""
    none = np.zeros(0, np.int64)
    empty = MatchedDetections(none, np.zeros((0, len(IOU_THRESHOLDS)), bool), none.astype(np.float32), none)
    return MatchedDetections(*map(np.concatenate, zip(empty, *parts, strict=True)))


def merge_ranks(parts: Sequence[MatchedDetections], block: int) -> MatchedDetections:
    """Merge the detections of all ranks, which received blocks of `block` images in turn, by image."""
    merged, rank = concatenate(parts), np.repeat(np.arange(len(parts)), [len(part.conf) for part in parts])
    order = np.lexsort((merged.image, rank, merged.image // block))
    return MatchedDetections(*(column[order] for column in merged))
