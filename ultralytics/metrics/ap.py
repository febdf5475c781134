"""Precision, recall and average precision of every class."""

from typing import NamedTuple

import numpy as np

from ultralytics.metrics.matching import Matches
from ultralytics.metrics.ranking import TRAPEZOID, average_precisions, rank_true_positives

CURVE_X = np.linspace(0, 1, 1000)  # confidences, or recalls, of the curves
AP_X = np.linspace(0, 1, 101)  # recalls of the interpolated precision, as in COCO


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
    conf: float  # of the highest mean F1 over the classes, smoothed over confidences; nan without labels


def average_precision(recall: np.ndarray, precision: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Compute the area under the precision-recall curve of one class at one IoU threshold.

    Precision is interpolated at 101 recalls, and is 0 at the last recall reached: a perfect detector has 0.995.

    Args:
        recall, precision: (n,) after each prediction, n >= 1, by descending confidence.

    Returns:
        The area, and the curve (recalls, precisions) from recall 0 to 1, with precision made non-increasing.
    """
    x = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    y = np.concatenate(([1.0], precision, [0.0, 0.0]))
    y = np.maximum.accumulate(y[::-1])[::-1]
    heights = np.interp(AP_X, x, y)
    area = ((heights[1:] + heights[:-1]) / 2 * np.diff(AP_X)).sum()  # trapezoidal rule
    return float(area), x, y


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
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    detection, threshold = np.nonzero(tp)
    matches = Matches(threshold, detection, np.zeros_like(detection))
    count = np.ones(len(conf), bool)
    true = rank_true_positives(order, position, pred_cls, count, matches, None, classes, tp.shape[1])
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
        _, x, y = average_precision(recall, precision)
        prec_values[row] = np.interp(CURVE_X, x, y)

    f1_curve = 2 * p_curve * r_curve / (p_curve + r_curve + 1e-16)
    best = int(_smooth(f1_curve.mean(0)).argmax()) if len(classes) else 0
    best_conf = float(CURVE_X[best]) if len(classes) else float("nan")
    p, r, f1 = p_curve[:, best], r_curve[:, best], f1_curve[:, best]
    true = (r * labels[classes]).round()
    false = (true / (p + 1e-16) - true).round()
    return ClassCurves(true, false, p, r, f1, ap, classes, p_curve, r_curve, f1_curve, CURVE_X, prec_values, best_conf)


def _smooth(curve: np.ndarray, width: int = 101) -> np.ndarray:
    """Average over `width` neighbors, with the ends repeated."""
    return np.convolve(np.pad(curve, width // 2, mode="edge"), np.full(width, 1 / width), mode="valid")
