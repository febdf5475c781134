"""Average precision: which detections are right, and the curves and areas that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
CURVE_X = np.linspace(0, 1, 1000)  # confidences, or recalls, at which the curves are kept
AP_X = np.linspace(0, 1, 101)  # recalls between which the area is summed, as in COCO


class ClassCurves(NamedTuple):
    """Result of `ap_per_class`; C classes that have labels, T IoU thresholds. Curves are at the first threshold."""

    tp: np.ndarray  # (C,) at the confidence of the largest mean F1, as are the next four
    fp: np.ndarray  # (C,)
    p: np.ndarray  # (C,)
    r: np.ndarray  # (C,)
    f1: np.ndarray  # (C,)
    ap: np.ndarray  # (C, T)
    classes: np.ndarray  # (C,) int: class of each row
    p_curve: np.ndarray  # (C, 1000) over confidence
    r_curve: np.ndarray  # (C, 1000) over confidence
    f1_curve: np.ndarray  # (C, 1000) over confidence
    x: np.ndarray  # (1000,)
    prec_values: np.ndarray  # (C, 1000) precision over recall


def match_predictions(iou: np.ndarray, thresholds: Sequence[float] = IOU_THRESHOLDS) -> np.ndarray:
    """Give each prediction, best first, the free label it overlaps most, separately for each threshold.

    Args:
        iou: (labels, predictions), predictions in descending order of confidence. A pair that must not be matched,
            say one of two classes, has 0.
        thresholds: T smallest overlaps that count as found, each above 0.

    Returns:
        (predictions, T) int: index of the label that was found, -1 for none.
    """
    thresholds = np.asarray(thresholds, dtype=iou.dtype)
    found = np.full((iou.shape[1], len(thresholds)), -1)
    free = np.ones((iou.shape[0], len(thresholds)), dtype=bool)
    columns = np.arange(len(thresholds))
    for prediction in np.flatnonzero((iou >= thresholds.min()).any(0)):
        overlap = iou[:, prediction, None] * free  # (labels, T)
        label = overlap.argmax(0)
        hit = overlap[label, columns] >= thresholds
        found[prediction, hit] = label[hit]
        free[label[hit], columns[hit]] = False
    return found


def average_precision(recall: np.ndarray, precision: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Area under the precision-recall curve of one class at one threshold.

    The curve is sampled at 101 recalls and already 0 at the last one reached, so a perfect detector has 0.995.

    Args:
        recall, precision: (n,) after each prediction, n >= 1, best prediction first.

    Returns:
        The area, and the curve (recalls, precisions): precision made non-increasing, and 0 beyond the last recall.
    """
    x = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    y = np.concatenate(([1.0], precision, [0.0, 0.0]))
    y = np.maximum.accumulate(y[::-1])[::-1]
    heights = np.interp(AP_X, x, y)
    return float(((heights[1:] + heights[:-1]) / 2 * np.diff(AP_X)).sum()), x, y


def f1_score(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Harmonic mean of the two; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall + 1e-16)


def _moving_mean(curve: np.ndarray, width: int = 101) -> np.ndarray:
    """Mean over `width` neighbours, the ends repeated, so that one lucky confidence does not win the maximum."""
    return np.convolve(np.pad(curve, width // 2, mode="edge"), np.full(width, 1 / width), mode="valid")


def ap_per_class(tp: np.ndarray, conf: np.ndarray, pred_cls: np.ndarray, target_cls: np.ndarray) -> ClassCurves:
    """Precision, recall, F1 and AP of each class that has labels.

    Args:
        tp: (N, T) bool: prediction is right at each IoU threshold.
        conf: (N,) confidence of the predictions.
        pred_cls: (N,) class of the predictions.
        target_cls: (M,) class of every label.
    """
    best_first = np.argsort(-conf, kind="stable")
    tp, conf, pred_cls = tp[best_first], conf[best_first], pred_cls[best_first]
    classes, labels = np.unique(target_cls.astype(int), return_counts=True)
    ap = np.zeros((len(classes), tp.shape[1]))
    p_curve, r_curve, prec_values = np.zeros((3, len(classes), len(CURVE_X)))
    for row, (cls, count) in enumerate(zip(classes, labels, strict=True)):
        own = pred_cls == cls
        if not own.any():
            continue
        right = tp[own].cumsum(0)  # (n, T)
        recall = right / count
        precision = right / np.arange(1, len(right) + 1)[:, None]
        # np.interp wants rising x; confidences fall. Above the best confidence nothing is found and nothing wrong.
        r_curve[row] = np.interp(-CURVE_X, -conf[own], recall[:, 0], left=0)
        p_curve[row] = np.interp(-CURVE_X, -conf[own], precision[:, 0], left=1)
        for column in range(tp.shape[1]):
            ap[row, column], x, y = average_precision(recall[:, column], precision[:, column])
            if column == 0:
                prec_values[row] = np.interp(CURVE_X, x, y)

    f1_curve = f1_score(p_curve, r_curve)
    best = _moving_mean(f1_curve.mean(0)).argmax() if len(classes) else 0
    p, r, f1 = p_curve[:, best], r_curve[:, best], f1_curve[:, best]
    true_positives = (r * labels).round()
    false_positives = (true_positives / (p + 1e-16) - true_positives).round()
    return ClassCurves(
        true_positives, false_positives, p, r, f1, ap, classes, p_curve, r_curve, f1_curve, CURVE_X, prec_values
    )
