"""Errors image by image: counts and AP of each image, the worst cases, and the confusion matrix by object size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ultralytics.metrics import tide
from ultralytics.metrics.ap import AREA, average_precisions, rank_true_positives
from ultralytics.metrics.boxes import Detected, EvalBoxes, Pairs, inverse, overlaps, select
from ultralytics.metrics.matching import EPS, ConfusionMatrix, Matches, assign
from ultralytics.metrics.tide import ERRORS, DetectionErrors, ErrorMatches, best_pairs
from ultralytics.utils.tables import Column, Table

NEAR = 0.1  # minimum overlap of a detection and a label that are shown together
SIZES = ("small", "medium", "large")
SIZE_BOUNDS = (32**2, 96**2)  # square pixels, as in COCO


class Case(NamedTuple):
    """An error: a detection, a label, or both; -1 without one."""

    error: str  # key of `ErrorMatches.counts`
    image: int
    detection: int
    label: int
    score: float  # of the detection; 0 without one
    loss: float  # 1 - IoU of both; 1 if they are apart


def image_average_precision(boxes: EvalBoxes, matched: DetectionErrors) -> np.ndarray:
    """Return the AP (I,) of each image at the IoU of its matches; nan without labels.

    It is the mean over the classes with labels in the image, of the area under precision over recall; crowds and
    ignored labels do not count.
    """
    found, labels, nc = boxes.found, select(boxes.labels, ~boxes.ignored), len(boxes.names)
    groups, positives = np.unique(labels.image * nc + labels.cls, return_counts=True)  # classes of an image
    key = found.image * nc + found.cls
    row = np.searchsorted(groups, key)
    kept = (np.append(groups, -1)[row] == key) & (matched.error != tide.IGNORED) & (matched.error != tide.BEYOND)
    row, score, right = row[kept], found.score[kept], np.flatnonzero(matched.error[kept] == tide.CORRECT)
    order, every = np.lexsort((-score, row)), np.ones(len(row), bool)
    matches = Matches(0 * right, right, 0 * right)
    true = rank_true_positives(order, inverse(order), row, every, matches, None, np.arange(len(groups)), 1)
    ap, _ = average_precisions(true, positives, 1, AREA)
    image, count = groups // nc, len(boxes.ids)
    classes = np.bincount(image, minlength=count)
    return np.where(classes, np.bincount(image, ap[:, 0], count) / classes.clip(1), np.nan)


def image_table(boxes: EvalBoxes, errors: ErrorMatches, found: Detected, ap: np.ndarray) -> Table:
    """Return a row for each image: labels, TP, FP, FN, its `ap`, errors of each type; `found` are those of `errors`."""
    code, count = errors.detections.error, len(boxes.ids)

    def per_image(image: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.bincount(image[rows], minlength=count)

    labels = per_image(boxes.labels.image, ~boxes.ignored)
    right = per_image(found.image, code == tide.CORRECT)
    kinds = {name: per_image(found.image, code == i) for i, name in enumerate(ERRORS) if i >= tide.CLASS}
    columns = {"labels": labels, "TP": right, "FP": sum(kinds.values()), "FN": labels - right, "AP": ap, **kinds}
    columns[tide.MISSED] = per_image(boxes.labels.image, errors.labels.missed)
    rows = zip(boxes.ids, *(c.tolist() for c in columns.values()), boxes.files or [""] * count, strict=True)
    numbers = [Column(name, ".3f" if name == "AP" else "d") for name in columns]
    return Table([Column("image"), *numbers, Column("file")], list(rows))


def find_cases(boxes: EvalBoxes, errors: ErrorMatches, rows: np.ndarray, count: int = 10) -> dict[str, list[Case]]:
    """Return false positives, confusions and false negatives: the `count` with the highest scores, and losses, of each.

    False negatives are those that no class or localization error explains; the detection of such a case is that of
    its class without a match and with the highest IoU, whatever its score. With equal losses, large objects are first.

    Args:
        errors: of the detections `rows`.
    """
    found, labels, nc = select(boxes.found, rows), boxes.labels, len(boxes.names)
    code, label, iou = errors.detections.error, errors.detections.label.copy(), errors.detections.iou.copy()
    near = overlaps(found, labels, nc, NEAR, same_class=False)
    near = best_pairs(select(near, ~boxes.ignored[near.label] & (label[near.detection] < 0)))
    label[near.detection], iou[near.detection] = near.label, near.iou
    cases: dict[str, list[Case]] = {}
    false = {"False positives": (code > tide.CLASS) & (code != tide.BEYOND), "Confusions": code == tide.CLASS}
    for name, wrong in false.items():
        own = np.flatnonzero(wrong)
        own = own[_choose(found.score[own], 1 - iou[own], found.score[own], count)]
        columns = (found.image[own], rows[own], label[own], found.score[own], 1 - iou[own])
        cases[name] = _cases([ERRORS[i] for i in code[own]], *columns)

    missed = np.flatnonzero(errors.labels.missed)
    detection, loss, score = np.full(len(missed), -1), np.ones(len(missed)), np.zeros(len(missed))
    pairs = overlaps(boxes.found, select(labels, missed), nc, NEAR)
    free = ~np.isin(pairs.detection, rows[errors.detections.match >= 0])
    best = best_pairs(Pairs(pairs.label[free], pairs.detection[free], pairs.iou[free]))  # of each label
    detection[best.detection], loss[best.detection] = best.label, 1 - best.iou
    score[best.detection] = boxes.found.score[best.label]
    own = _choose(loss, score, labels.area[missed], count)
    columns = (labels.image[missed[own]], detection[own], missed[own], score[own], loss[own])
    return {**cases, "False negatives": _cases([tide.MISSED] * len(own), *columns)}


def _cases(errors: list[str], *columns: np.ndarray) -> list[Case]:
    return [Case(*case) for case in zip(errors, *(column.tolist() for column in columns), strict=True)]


def _choose(first: np.ndarray, second: np.ndarray, tie: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the highest values of two columns, by descending values of the first."""
    chosen = np.unique(np.concatenate([np.lexsort((-tie, -values))[:count] for values in (first, second)]))
    return chosen[np.lexsort((-tie[chosen], -first[chosen]))]


def confusion_by_size(boxes: EvalBoxes, conf: float = 0.25, iou: float = 0.45) -> np.ndarray:
    """Return the confusion matrices (3, nc + 1, nc + 1) of SIZES, by the area of the label, or else of the detection.

    Their sum is the confusion matrix of all objects; crowds and ignored labels are left out.
    """
    matrices = [ConfusionMatrix(boxes.names, conf, iou) for _ in SIZES]
    labels = select(boxes.labels, ~boxes.ignored)
    confident = np.flatnonzero(boxes.found.score > conf)
    pairs = overlaps(select(boxes.found, confident), labels, len(boxes.names), iou, same_class=False, eps=EPS)
    matches, label = assign(pairs, [iou]), np.full(len(confident), -1)
    label[matches.detection] = matches.label
    size = np.digitize(labels.area, SIZE_BOUNDS)
    found_size = np.digitize(boxes.found.size[confident], SIZE_BOUNDS)
    found_size[label >= 0] = size[label[label >= 0]]
    for i, matrix in enumerate(matrices):
        own, rows = size == i, found_size == i
        place = np.append(own.cumsum() - 1, -1)[label[rows]]  # among the labels of this size
        matrix.count(place, boxes.found.cls[confident[rows]], labels.cls[own])
    return np.array([matrix.matrix for matrix in matrices]).astype(int)


def size_table(by_size: np.ndarray) -> Table:
    """Return a row for each size: labels, what became of them, false positives, precision and recall."""
    rows = []
    for name, table in zip((*SIZES, "all"), [*by_size, by_size.sum(0)], strict=True):
        found, labels, right = (int(n) for n in (table[:-1].sum(), table[:, :-1].sum(), table.diagonal()[:-1].sum()))
        counts = [labels, right, table[:-1, :-1].sum() - right, table[-1].sum(), table[:-1, -1].sum()]
        rows.append([name, *map(int, counts), *(right / n if n else None for n in (found, labels))])
    titles = {"Labels": "d", "Found": "d", "Confused": "d", "Missed": "d", "On background": "d", "P": ".3f", "R": ".3f"}
    return Table([Column("Size"), *(Column(*title) for title in titles.items())], rows)


def confusion_table(by_size: np.ndarray, names: Mapping[int, str]) -> Table:
    """Return a row for each pair of predicted and true class that occurs, frequent ones first, with numbers by size."""
    total, titles = by_size.sum(0), [*names.values(), "background"]
    pairs = np.argwhere(total)
    pairs = pairs[np.argsort(-total[tuple(pairs.T)], kind="stable")].tolist()
    rows = [[titles[p], titles[t], *by_size[:, p, t].tolist(), int(total[p, t])] for p, t in pairs]
    return Table([Column("Predicted"), Column("True"), *(Column(name, "d") for name in (*SIZES, "all"))], rows)
