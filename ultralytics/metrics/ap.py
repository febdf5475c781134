"""Precision, recall and average precision of every class.

AP needs the ranks of true positives only, as precision has its maxima there: each true positive needs the number of
counted detections up to its rank.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ultralytics.metrics.boxes import inverse, places
from ultralytics.metrics.matching import Matches

CURVE_X = np.linspace(0, 1, 1000)  # confidences, or recalls, of the curves
AP_X = np.linspace(0, 1, 101)  # recalls of the interpolated precision, as in COCO

GRIDS = {"101 points": np.linspace(0, 1, 101), "11 points": np.linspace(0, 1, 11), "TIDE": np.arange(101) / 100}
TRAPEZOID, AREA = "101 points, trapezoid", "area"


class ClassCurves(NamedTuple):
    """Result of `ap_per_class` for C classes with labels and T IoU thresholds; curves are at the first threshold."""

    tp: np.ndarray  # (C,) true positives at `conf`, as are the next four
    fp: np.ndarray  # (C,) false positives
    p: np.ndarray  # (C,) precision
    r: np.ndarray  # (C,) recall
    f1: np.ndarray  # (C,)
    ap: np.ndarray  # (C, T)
    classes: np.ndarray  # (C,) int, class of each row
    p_curve: np.ndarray  # (C, 1000) over confidence
    r_curve: np.ndarray  # (C, 1000) over confidence
    f1_curve: np.ndarray  # (C, 1000) over confidence
    x: np.ndarray  # (1000,)
    prec_values: np.ndarray  # (C, 1000) precision over recall

    @property
    def conf(self) -> float:
        """Confidence of the highest mean F1 over the classes, smoothed over confidences; nan without labels."""
        return float(CURVE_X[smooth(self.f1_curve.mean(0), 0.1).argmax()]) if len(self.classes) else float("nan")


def average_precision(recall: np.ndarray, precision: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Compute the area under the precision-recall curve of one class at one IoU threshold.

    Precision is interpolated at 101 recalls, and is 0 at the last recall reached: a perfect detector has 0.995.

    Args:
        recall, precision: (n,) after each prediction, n >= 1, by descending confidence.

    Returns:
        The area, and the curve (precisions, recalls) from recall 0 to 1, with precision made non-increasing.
    """
    x = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    y = np.concatenate(([1.0], precision, [0.0, 0.0]))
    y = np.maximum.accumulate(y[::-1])[::-1]
    heights = np.interp(AP_X, x, y)
    area = ((heights[1:] + heights[:-1]) / 2 * np.diff(AP_X)).sum()  # trapezoidal rule
    return float(area), y, x


def ap_per_class(tp: np.ndarray, conf: np.ndarray, pred_cls: np.ndarray, target_cls: np.ndarray) -> ClassCurves:
    """Compute precision, recall, F1 and AP of each class that has labels.

    Args:
        tp: (N, T) bool, whether a prediction is a true positive at each IoU threshold.
        conf, pred_cls: (N,) of the predictions.
        target_cls: (M,) of the labels.
    """
    labels = np.bincount(target_cls.astype(int))
    classes = np.flatnonzero(labels)
    order, pred_cls = np.lexsort((-conf, pred_cls)), pred_cls.astype(int)
    detection, threshold = np.nonzero(tp)
    matches = Matches(threshold, detection, np.zeros_like(detection))
    count = np.ones(len(conf), bool)
    true = rank_true_positives(order, inverse(order), pred_cls, count, matches, None, classes, tp.shape[1])
    ap, _ = average_precisions(true, labels[classes], tp.shape[1], TRAPEZOID)
    starts, ends = (np.searchsorted(pred_cls[order], classes, side) for side in ("left", "right"))
    p_curve, r_curve, prec_values = np.zeros((3, len(classes), len(CURVE_X)))
    for row, cls in enumerate(classes):
        own = order[starts[row] : ends[row]]
        if not len(own):
            continue
        found = tp[own, 0].cumsum()
        recall, precision = found / labels[cls], found / np.arange(1, len(own) + 1)
        # np.interp needs ascending x; above the highest confidence recall is 0 and precision 1
        r_curve[row] = np.interp(-CURVE_X, -conf[own], recall, left=0)
        p_curve[row] = np.interp(-CURVE_X, -conf[own], precision, left=1)
        _, y, x = average_precision(recall, precision)
        prec_values[row] = np.interp(CURVE_X, x, y)

    f1_curve = 2 * p_curve * r_curve / (p_curve + r_curve + 1e-16)
    best = int(smooth(f1_curve.mean(0), 0.1).argmax()) if len(classes) else 0
    p, r, f1 = p_curve[:, best], r_curve[:, best], f1_curve[:, best]
    true = (r * labels[classes]).round()
    false = (true / (p + 1e-16) - true).round()
    return ClassCurves(true, false, p, r, f1, ap, classes, p_curve, r_curve, f1_curve, CURVE_X, prec_values)


class TruePositives(NamedTuple):
    """E true positives of K classes at T thresholds, by segment (class row * T + threshold), then rank."""

    segment: np.ndarray  # (E,)
    detection: np.ndarray  # (E,)
    rank: np.ndarray  # (E,) counted detections of the class up to this one
    precision: np.ndarray  # (E,) highest precision at this recall or a higher one
    starts: np.ndarray  # (K * T + 1,) first true positive of each segment


def rank_true_positives(
    by_class: np.ndarray, position: np.ndarray, cls: np.ndarray, counted: np.ndarray, matches: Matches,
    ignored: np.ndarray | None, classes: np.ndarray, thresholds: int,
) -> TruePositives:  # fmt: skip
    """Rank the true positives of some classes.

    Args:
        by_class, position: (N,) detections by class, then descending score, and the inverse of this order.
        cls: (N,) class of each detection.
        counted: (N,) whether a detection is a false positive if it has no match.
        matches: at `thresholds` levels.
        ignored: (M,) labels whose detections are neither true nor false positives.
        classes: (K,) ascending.
    """
    running = np.append(0, counted[by_class].cumsum())  # counted detections before each position
    sizes = np.bincount(cls, minlength=classes.max(initial=-1) + 1)
    first = (sizes.cumsum() - sizes)[classes]
    row = np.searchsorted(classes, cls[matches.detection])
    known = np.flatnonzero(np.append(classes, -1)[row] == cls[matches.detection])
    threshold, detection, label = (column[known] for column in matches)
    segment = row[known] * thresholds + threshold
    order = np.argsort(segment * len(cls) + position[detection])
    segment, detection, label = segment[order], detection[order], label[order]

    true = np.ones(len(label), bool) if ignored is None else ~ignored[label]
    change = true.astype(np.int64) - counted[detection]  # of the counted detections, by the match
    changes = np.append(0, change.cumsum())
    begins = np.searchsorted(segment, segment)
    rank = running[position[detection] + 1] - running[first[row[known][order]]] + changes[1:] - changes[begins]
    segment, detection, rank = segment[true], detection[true], rank[true]
    precision = (places(segment) + 1) / rank
    starts = np.searchsorted(segment, np.arange(len(classes) * thresholds + 1))
    for begin, end in pairwise(starts.tolist()):
        precision[begin:end] = np.maximum.accumulate(precision[begin:end][::-1])[::-1]
    return TruePositives(segment, detection, rank, precision, starts)


def average_precisions(
    true: TruePositives, positives: np.ndarray, thresholds: int, integration: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Integrate precision over recall.

    Args:
        positives: (K,) labels of each class, at least one.

    Returns:
        AP (K, T), and the precision (K, T, R) at the recalls of a grid.
    """
    counts, starts = np.diff(true.starts).reshape(-1, thresholds), true.starts[:-1].reshape(-1, thresholds)  # (K, T)
    if integration == AREA:
        sums = np.append(0, true.precision.cumsum())[true.starts]
        return np.diff(sums).reshape(counts.shape) / positives[:, None], None
    grid = GRIDS.get(integration, GRIDS["101 points"])
    padded = np.append(true.precision, [0.0, 0.0])
    heights = np.zeros((*counts.shape, len(grid)))
    for k, n in enumerate(positives):
        recall = np.arange(1, n + 1) / n
        if integration != TRAPEZOID:
            needed = np.searchsorted(recall, grid)  # true positives before that which reaches the recall
            heights[k] = np.where(
                needed < counts[k, :, None], padded[np.minimum(starts[k, :, None] + needed, len(true.precision))], 0
            )
            continue
        done = np.searchsorted(recall, grid, side="right")
        at = np.minimum(starts[k, :, None] + done, len(true.precision))  # (T, R) the next true positive
        rank = np.append(true.rank, 0)
        before, at_start = np.maximum(at - 1, 0), done == 0
        gap = rank[at] - np.where(at_start, 0, rank[before]) > 1  # false positives between both
        left = np.where(gap, padded[at], np.where(at_start, 1.0, padded[before]))
        share = (grid - done / n) * n
        heights[k] = np.where(done < counts[k, :, None], left + (padded[at] - left) * share, 0)
    if integration == TRAPEZOID:
        return ((heights[..., 1:] + heights[..., :-1]) / 2).sum(-1) / (len(grid) - 1), heights
    return heights.mean(-1), heights


def smooth(y: np.ndarray, f: float = 0.05) -> np.ndarray:
    """Average a curve over its neighbors, a part `f` of it, with the ends repeated."""
    width = round(len(y) * f * 2) // 2 + 1
    return np.convolve(np.pad(y, width // 2, mode="edge"), np.full(width, 1 / width), mode="valid")
