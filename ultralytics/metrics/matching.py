"""Detections of many images, judged against the labels: which are right at which overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ultralytics.utils.dist import interleave

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


class ConfusionMatrix:
    """Counts of (predicted, true) class pairs at one confidence and one overlap.

    `matrix` is (nc + 1, nc + 1): rows predicted, columns true, the last of each is the background. Unlike for AP a
    prediction may be matched to a label of another class: that is what the matrix is there to show.
    """

    def __init__(self, names: dict[int, str], conf: float = 0.25, iou: float = 0.45) -> None:
        self.names = names
        self.nc = len(names)
        self.conf = conf
        self.iou = iou
        self.matrix = np.zeros((self.nc + 1, self.nc + 1))

    def add_image(self, iou: np.ndarray, conf: np.ndarray, pred_cls: np.ndarray, true_cls: np.ndarray) -> None:
        """Count one image: iou (labels, predictions), the predictions in descending order of `conf`."""
        sure = conf > self.conf
        self.count(match_predictions(iou[:, sure], [self.iou])[:, 0], pred_cls[sure], true_cls)

    def count(self, found: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> None:
        """Count predictions by their class, the position of the label they have found (-1: none), and all labels."""
        true = np.append(true, self.nc).astype(int)  # found == -1 means the background
        np.add.at(self.matrix, (predicted.astype(int), true[found]), 1)
        missed = np.ones(len(true), bool)
        missed[found] = missed[-1] = False
        np.add.at(self.matrix, (self.nc, true[missed]), 1)

    def normalised(self) -> np.ndarray:
        """Share of each true class (each column sums to 1); columns without labels stay 0."""
        return self.matrix / self.matrix.sum(0, keepdims=True).clip(1)

    def tp_fp(self) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives of each class, (nc,) each."""
        right = self.matrix.diagonal()[:-1]
        return right, self.matrix.sum(1)[:-1] - right

    def summary(self, normalize: bool = False) -> list[dict[str, str | float]]:
        """One row for each predicted class, a column for each true class; fit for a table or JSON."""
        labels = [*self.names.values(), "background"]
        table = self.normalised() if normalize else self.matrix
        return [
            {"Predicted": label, **dict(zip(labels, row.tolist(), strict=True))}
            for label, row in zip(labels, table, strict=True)
        ]

    def plot(self, normalize: bool = True, save_dir: str = "") -> None:
        """Draw the matrix into `save_dir`."""
        from ultralytics.utils.plotting import plot_confusion_matrix  # matplotlib is slow to import

        plot_confusion_matrix(self, save_dir, normalize=normalize)
