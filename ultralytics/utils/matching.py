"""Which detections have found which labels, for many images at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


def match_predictions(iou: np.ndarray, thresholds: Sequence[float] = IOU_THRESHOLDS) -> np.ndarray:
    """Give each prediction, best first, the free label it overlaps most, separately for each threshold.

    Args:
        iou: (labels, predictions), predictions in descending order of confidence. A pair that must not be matched,
            say one of two classes, has 0.
        thresholds: T smallest overlaps that count as found, each above 0.

    Returns:
        (predictions, T) int: index of the label that was found, -1 for none.
    """
    found = np.full((iou.shape[1], len(thresholds)), -1)
    prediction, label = np.nonzero(iou.T > 0)
    for column, pairs in enumerate(match_pairs(prediction, label, iou[label, prediction], thresholds)):
        found[prediction[pairs], column] = label[pairs]
    return found


def match_pairs(
    prediction: np.ndarray, label: np.ndarray, iou: np.ndarray, thresholds: Sequence[float]
) -> list[np.ndarray]:
    """As `match_predictions`, of all images in one go.

    Args:
        prediction, label, iou: (P,) the pairs that may be matched, by `prediction`, then `label`, ascending. Both count
            on over the images; of each image the best prediction is first.

    Returns:
        For each threshold the positions of the pairs that are matched.
    """
    thresholds = np.asarray(thresholds, dtype=iou.dtype)
    likely = np.flatnonzero(iou >= thresholds.min())
    # Best overlap of each prediction first; of equal ones the first label.
    likely = likely[np.lexsort((-iou[likely], prediction[likely]))]
    return [_first_come(prediction, label, likely[iou[likely] >= threshold]) for threshold in thresholds]


def _first_come(prediction: np.ndarray, label: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Each prediction, in ascending order, takes the first of its pairs whose label is free.

    All predictions ask for their first label at once, and each label drops all that come after the first that asks.
    Nobody is dropped whom the label could have taken, so repeating it ends where one after the other would have.
    """
    nobody = np.iinfo(np.int64).max
    first_asking = np.full(label[pairs].max(initial=-1) + 1, nobody)
    while True:
        asking, wanted = prediction[pairs], label[pairs]
        first = np.ones(len(pairs), bool)
        first[1:] = asking[1:] != asking[:-1]
        first_asking[wanted] = nobody
        # Of several values for one place the last one stays, hence from the back.
        first_asking[wanted[first][::-1]] = asking[first][::-1]
        stays = asking <= first_asking[wanted]
        if stays.all():
            return pairs[first]
        pairs = pairs[stays]


def pairs_of_groups(predictions: np.ndarray, labels: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Every (prediction, label) of the same group, by prediction, then label, ascending: two (P,) arrays of positions.

    Args:
        predictions, labels: (N,) and (M,) group of each, 0 to groups - 1.
    """
    by_group = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=groups)
    starts = np.cumsum(sizes) - sizes
    counts = sizes[predictions]  # (N,) labels of the same group
    prediction = np.repeat(np.arange(len(predictions)), counts)
    nth = np.arange(len(prediction)) - np.repeat(np.cumsum(counts) - counts, counts)
    return prediction, by_group[starts[predictions[prediction]] + nth]


def paired_iou(one: np.ndarray, other: np.ndarray, eps: float = 1e-7) -> np.ndarray:
    """IoU of `xyxy` boxes (P, 4) with those (P, 4) at the same position; the arithmetic of `boxes.box_iou`."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    overlap = np.maximum(sides[:, 0], 0) * np.maximum(sides[:, 1], 0)
    area1, area2 = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (one, other))
    return overlap / (area1 + area2 - overlap + np.float32(eps))
