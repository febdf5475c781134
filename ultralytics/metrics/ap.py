"""Average precision: the curves and areas that follow from which detections are right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

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


def average_precision(recall: np.ndarray, precision: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Area under the precision-recall curve of one class at one threshold.

    The curve is sampled at 101 recalls and already 0 at the last one reached, so a perfect detector has 0.995.

    Args:
        recall, precision: (n,) after each prediction, n >= 1, best prediction first.

    Returns:
        The area, and the curve (recalls, precisions): precision made non-increasing, and 0 beyond the last recall.
    """
    x, y = _envelope(recall, precision)
    return float(_area(np.interp(AP_X, x, y))), x, y


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
    labels = np.bincount(target_cls.astype(int))
    return ap_of_hits(*np.nonzero(tp), conf, pred_cls, labels, tp.shape[1])


def ap_of_hits(
    row: np.ndarray, column: np.ndarray, conf: np.ndarray, pred_cls: np.ndarray, labels: np.ndarray, thresholds: int
) -> ClassCurves:
    """As `ap_per_class`; `row` and `column` (H,) are where `tp` is true, `labels` (nc,) the number of each class.

    Most predictions are wrong, and the area depends only on where the right ones stand.
    """
    order, starts = _best_first_by_class(conf, pred_cls, len(labels))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    # Sorted by threshold, class and confidence: one number a hit.
    hits = np.sort(column.astype(np.int64) * len(order) + place[row])
    classes = np.flatnonzero(labels)
    heights = np.zeros((len(classes), thresholds, len(AP_X)))
    p_curve, r_curve, prec_values = np.zeros((3, len(classes), len(CURVE_X)))
    ends = np.arange(thresholds)[:, None] * len(order) + starts  # (T, nc + 1)
    bounds = np.searchsorted(hits, ends)
    for line, cls in enumerate(classes):
        own = slice(starts[cls], starts[cls + 1])
        count = own.stop - own.start
        if not count:
            continue
        scores = -conf[order[own]].astype(float)
        for t in range(thresholds):
            right = hits[bounds[t, cls] : bounds[t, cls + 1]] - ends[t, cls]  # places among those of the class
            if t == 0:
                # np.interp wants rising x; confidences fall. Above the best confidence nothing is found nor wrong.
                found = np.zeros(count, int)
                found[right] = 1
                found = found.cumsum()
                r_curve[line] = np.interp(-CURVE_X, scores, found / labels[cls], left=0)
                p_curve[line] = np.interp(-CURVE_X, scores, found / np.arange(1, count + 1), left=1)
            if len(right):
                x, y = _steps(right, count, labels[cls])
                heights[line, t] = np.interp(AP_X, x, y)
                if t == 0:
                    prec_values[line] = np.interp(CURVE_X, x, y)

    ap = _area(heights)
    f1_curve = f1_score(p_curve, r_curve)
    best = _moving_mean(f1_curve.mean(0)).argmax() if len(classes) else 0
    p, r, f1 = p_curve[:, best], r_curve[:, best], f1_curve[:, best]
    true_positives = (r * labels[classes]).round()
    false_positives = (true_positives / (p + 1e-16) - true_positives).round()
    return ClassCurves(
        true_positives, false_positives, p, r, f1, ap, classes, p_curve, r_curve, f1_curve, CURVE_X, prec_values
    )


def _best_first_by_class(conf: np.ndarray, pred_cls: np.ndarray, nc: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions by class, then descending confidence, then as they came; and where each class begins (nc + 1,)."""
    if conf.dtype == np.float32 and conf.min(initial=0) >= 0:
        # The bits of such numbers rise with them; with the position below them, NumPy's fast plain sort is stable.
        keys = (~(conf + np.float32(0)).view(np.uint32)).astype(np.uint64) << np.uint64(32)
        keys |= np.arange(len(conf), dtype=np.uint64)
        keys.sort()
        best_first = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    else:
        best_first = np.argsort(-conf, kind="stable")
    # A class without labels does not count, wherever it lies; 16 bits are sorted by radix.
    cls = np.minimum(pred_cls, nc).astype(np.uint16 if nc < 65535 else np.int64)
    order = best_first[np.argsort(cls[best_first], kind="stable")]
    return order, np.concatenate(([0], np.bincount(cls, minlength=nc + 1)[:nc])).cumsum()


def _steps(right: np.ndarray, count: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """The precision-recall curve (recalls, precisions) of `count` predictions; right are those at `right` (R,), R >= 1.

    Of each run of wrong ones only the last is a point of it: recall stays, and precision was higher before the run.
    """
    before = right - 1
    wrong = before[before > np.concatenate(([-1], right[:-1]))]
    points = np.sort(np.concatenate((right, wrong, [count - 1] if right[-1] < count - 1 else []))).astype(int)
    found = np.searchsorted(right, points, side="right")
    return _envelope(found / labels, found / (points + 1))


def _envelope(recall: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve from recall 0 to 1 with precision made non-increasing, and 0 beyond the last recall."""
    x = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    y = np.concatenate(([1.0], precision, [0.0, 0.0]))
    return x, np.maximum.accumulate(y[::-1])[::-1]


def _area(heights: np.ndarray) -> np.ndarray:
    """Area under curves (..., 101) given at AP_X, by the trapezoidal rule."""
    return ((heights[..., 1:] + heights[..., :-1]) / 2 * np.diff(AP_X)).sum(-1)
