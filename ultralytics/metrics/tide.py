"""Types of errors and the AP that each of them costs: TIDE (Bolya et al., ECCV 2020, https://arxiv.org/abs/2008.08115).

| error | detection without a match, or label |
|---|---|
| class | overlaps a label of another class by at least `iou` |
| localization | overlaps a label of its class by `background` to `iou` |
| both | overlaps a label of another class by more than `background` and less than `iou` |
| duplicate | overlaps a label that another detection has matched by at least `iou` |
| background | overlaps no label by more than `background` |
| missed | label without a match that no class or localization error explains |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ultralytics.metrics.ap import average_precisions, rank_true_positives
from ultralytics.metrics.boxes import Detected, EvalBoxes, Pairs, inverse, overlaps, places, select
from ultralytics.metrics.matching import Matches, assign

ERRORS = ("correct", "ignored", "class", "localization", "both", "duplicate", "background")
CORRECT, IGNORED, CLASS, LOCALIZATION, BOTH, DUPLICATE, BACKGROUND = range(len(ERRORS))
BEYOND = 255  # code of detections beyond the limit
MISSED = "missed"
SPECIAL = ("false positive", "false negative")


class DetectionErrors(NamedTuple):
    """Columns of N detections; -1 without a label."""

    error: np.ndarray  # (N,) uint8, index in ERRORS; BEYOND for those beyond the limit
    match: np.ndarray  # (N,) matched label
    label: np.ndarray  # (N,) matched label, or the label that explains the error
    iou: np.ndarray  # (N,) with `label`


class LabelErrors(NamedTuple):
    """Columns of M labels."""

    match: np.ndarray  # (M,) detection, or -1
    ignored: np.ndarray  # (M,) bool
    missed: np.ndarray  # (M,) bool


@dataclass(frozen=True)
class ErrorMatches:
    """Matches at one IoU threshold, the type of each error, and what each type costs."""

    detections: DetectionErrors
    labels: LabelErrors
    ap: float | None  # 0 to 100; classes with detections but without labels count as 0; None without labels
    delta: dict[str, float | None]  # gain in AP if all errors of a type are corrected, or None; SPECIAL last
    counts: dict[str, int]  # errors of each type


def find_errors(boxes: EvalBoxes, iou: float = 0.5, background: float = 0.1, limit: int = 100) -> ErrorMatches:
    """Find the type of each error, and the AP that each type costs.

    Args:
        iou: minimum overlap of a match.
        background: overlap up to which a detection is background.
        limit: highest number of detections of an image.
    """
    found, labels, nc = boxes.found, boxes.labels, len(boxes.names)
    ignored = boxes.ignored
    error = np.where(places(found.image) < limit, BACKGROUND, BEYOND).astype(np.uint8)
    match, explained, value = np.full(len(error), -1), np.full(len(error), -1), np.zeros(len(error))
    holder, claim = np.full(len(ignored), -1), np.full(len(ignored), len(error))

    near = overlaps(found, labels, nc, background, same_class=False)
    alike = found.cls[near.detection] == labels.cls[near.label]
    usable = (error[near.detection] != BEYOND) & ~ignored[near.label]
    _, detection, label = assign(select(near, usable & alike), [iou])
    match[detection], holder[label], error[detection] = label, detection, CORRECT

    # unmatched detections, also those in ignored regions, as in tidecv; a later line has priority over an earlier one
    open_ = error == BACKGROUND
    usable &= open_[near.detection]
    error[near.detection[usable & (near.iou > background)]] = BOTH
    own, other = (best_pairs(select(near, usable & kind)) for kind in (alike, ~alike))
    for code, (detection, label, overlap), fits in (
        (DUPLICATE, own, own.iou > iou),
        (CLASS, other, other.iou >= iou),
        (LOCALIZATION, own, own.iou <= iou),
    ):
        rows = detection[fits]
        error[rows], explained[rows], value[rows] = code, label[fits], overlap[fits]
    regions = overlaps(found, select(labels, ignored)._replace(crowd=ignored[ignored]), nc, iou, same_class=False)
    kinds = labels.cls[ignored][regions.label]
    inside = regions.detection[((kinds == found.cls[regions.detection]) | (kinds < 0)) & (regions.iou > iou)]
    hidden = np.zeros(len(error), bool)
    hidden[inside[open_[inside]]] = True

    # a class or localization error is corrected only if it has the highest score among those of a free label
    fixable = np.flatnonzero((error == CLASS) | (error == LOCALIZATION))
    fixable = fixable[holder[explained[fixable]] < 0]
    np.minimum.at(claim, explained[fixable], fixable)
    missed = ~ignored & (holder < 0) & (claim == len(error))
    fixed = fixable[claim[explained[fixable]] == fixable]
    right = match >= 0
    explained[right] = match[right]
    pairs = select(near, near.label == match[near.detection])
    value[pairs.detection] = pairs.iou

    positives = np.bincount(labels.cls[~ignored], minlength=nc)
    counted = (error != BEYOND) & ~hidden
    without = positives - np.bincount(labels.cls[missed], minlength=nc)
    ap, delta = _costs(found, error, right, counted, positives, without, fixed, labels.cls[explained[fixed]])
    if not (positives.any() and len(found.cls)):  # nothing is left after a correction; tidecv divides by zero
        ap, delta = ap if positives.any() else None, dict.fromkeys(delta)
    error[hidden], explained[hidden], value[hidden] = IGNORED, -1, 0
    counts = {name: int((error == code).sum()) for code, name in enumerate(ERRORS) if code >= CLASS}
    return ErrorMatches(
        DetectionErrors(error, match, explained, value), LabelErrors(holder, ignored, missed), ap, delta,
        {**counts, MISSED: int(missed.sum())},
    )  # fmt: skip


def _costs(
    found: Detected, error: np.ndarray, right: np.ndarray, counted: np.ndarray, positives: np.ndarray,
    without: np.ndarray, fixed: np.ndarray, classes: np.ndarray,
) -> tuple[float, dict[str, float]]:  # fmt: skip
    """Return the AP, and what it gains if all errors of one type are corrected.

    Args:
        right, counted: (N,) bool, matched detections, and those that are scored.
        positives, without: (classes,) labels, and labels without the missed ones.
        fixed, classes: detections that become right when their error is corrected, and their classes then.
    """
    ap = _mean_ap(found.cls, found.score, counted, right, positives)
    delta = {}
    for code in range(CLASS, len(ERRORS)):
        cls, true, now = found.cls.copy(), right.copy(), error[fixed] == code
        cls[fixed[now]], true[fixed[now]] = classes[now], True
        kept = (counted & (error != code)) | true
        delta[ERRORS[code]] = max(_mean_ap(cls, found.score, kept, true, positives, right) - ap, 0.0)
    delta[MISSED] = max(_mean_ap(found.cls, found.score, counted, right, without, right) - ap, 0.0)
    below = np.where(right, found.score, found.score.min(initial=0) - 1)  # false positives get the lowest scores
    found_of = np.bincount(found.cls[right], minlength=len(positives))
    delta[SPECIAL[0]] = _mean_ap(found.cls, below, counted, right, positives, right) - ap
    delta[SPECIAL[1]] = _mean_ap(found.cls, found.score, counted, right, found_of, right) - ap
    return ap, delta


def best_pairs(pairs: Pairs) -> Pairs:
    """Return the pair of the highest IoU of each detection, the first of equal ones."""
    order = np.lexsort((pairs.label, -pairs.iou, pairs.detection))
    detection = pairs.detection[order]
    return select(pairs, order[np.append(True, detection[1:] != detection[:-1])[: len(order)]])


def _mean_ap(
    cls: np.ndarray, score: np.ndarray, counted: np.ndarray, true: np.ndarray, positives: np.ndarray,
    ties: np.ndarray | None = None,
) -> float:  # fmt: skip
    """Return the mean AP, 0 to 100, over the classes with labels or counted detections."""
    order = np.lexsort((*(() if ties is None else (ties[counted],)), -score[counted], cls[counted]))
    cls, true = cls[counted], np.flatnonzero(true[counted])
    classes = np.flatnonzero(positives)
    matches = Matches(np.zeros_like(true), true, np.zeros_like(true))
    ranked = rank_true_positives(order, inverse(order), cls, np.ones(len(cls), bool), matches, None, classes, 1)
    ap, _ = average_precisions(ranked, positives[classes], 1, "TIDE")
    present = np.count_nonzero((positives > 0) | (np.bincount(cls, minlength=len(positives)) > 0))
    return 100 * float(ap.sum()) / present if present else 0.0
