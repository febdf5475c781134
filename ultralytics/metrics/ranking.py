"""Average precision from the ranks of true positives alone.

Precision has its maxima at true positives, so the many detections in between need no precision of their own: each
true positive needs the number of counted detections up to its rank.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ultralytics.metrics.boxes import places
from ultralytics.metrics.matching import Matches

GRIDS = {"101 points": np.linspace(0, 1, 101), "11 points": np.linspace(0, 1, 11), "TIDE": np.arange(101) / 100}
TRAPEZOID, AREA = "101 points, trapezoid", "area"
INTEGRATIONS = (*GRIDS, TRAPEZOID, AREA)


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
