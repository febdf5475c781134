"""Errors of a small set made by hand: three images, two classes."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.metrics.random_boxes import random_set, to_boxes
from ultralytics.metrics.boxes import EvalBoxes
from ultralytics.metrics.image_errors import (
    SIZES,
    confusion_by_size,
    confusion_table,
    find_cases,
    image_average_precision,
    image_table,
    size_table,
)
from ultralytics.metrics.matching import ConfusionMatrix
from ultralytics.metrics.tide import ErrorMatches, find_errors

LABELS = [  # image, class, box
    (0, 0, (0, 0, 10, 10)), (0, 1, (100, 0, 50, 50)), (0, 0, (200, 0, 100, 100)),  # small, medium, large
    (1, 1, (0, 0, 20, 20)), (1, 0, (50, 50, 40, 40)), (0, 0, (400, 0, 50, 50)),  # the last is a crowd
]  # fmt: skip
FOUND = [  # image, class, box, score
    (0, 0, (0, 0, 10, 10), 0.9), (0, 0, (0, 0, 10, 9), 0.8), (0, 0, (100, 0, 50, 50), 0.7),
    (0, 0, (200, 0, 100, 40), 0.6), (0, 0, (400, 0, 50, 50), 0.55), (0, 1, (500, 500, 20, 20), 0.5),
    (1, 1, (0, 0, 20, 20), 0.1), (2, 0, (0, 0, 200, 200), 0.95),
]  # fmt: skip


def made_boxes(images: int = 3) -> EvalBoxes:
    rows = [{"image": i, "cls": c, "box": b, "area": b[2] * b[3], "crowd": b[0] == 400} for i, c, b in LABELS]
    return to_boxes(images, 2, rows, [dict(zip(("image", "cls", "box", "score"), row, strict=True)) for row in FOUND])


def confident(boxes: EvalBoxes) -> tuple[np.ndarray, EvalBoxes, ErrorMatches]:
    rows = np.flatnonzero(boxes.found.score > 0.25)
    return rows, (some := boxes.with_rows(found=rows)), find_errors(some)


def test_rows_of_images_have_counts_and_ap():
    boxes = made_boxes()
    _, some, errors = confident(boxes)
    ap = image_average_precision(boxes, find_errors(boxes).detections)
    # image 0: class 0 has one of two labels first, class 1 none; image 1: class 1 is found, class 0 is not
    np.testing.assert_allclose(ap, [(1 / 2 + 0) / 2, (0 + 1) / 2, np.nan])
    rows = list(csv.DictReader(io.StringIO(image_table(boxes, errors, some.found, ap).csv())))
    counts = {
        "labels": "320", "TP": "100", "FP": "401", "FN": "220", "class": "100", "localization": "100", "both": "000",
        "duplicate": "100", "background": "101", "missed": "020",
    }  # fmt: skip
    assert {name: "".join(row[name] for row in rows) for name in counts} == counts
    assert list(rows[0]) == ["image", *list(counts)[:4], "AP", *list(counts)[4:], "file"]
    assert [row["AP"] for row in rows] == ["0.25", "0.5", ""]


def test_ap_of_an_image_is_that_of_its_classes():
    """The highest precision at a recall or beyond counts: TP, FP, TP of two labels are (1 + 2/3) / 2."""
    labels = [{"image": 0, "cls": 0, "box": (x, 0, 10, 10), "area": 100, "crowd": False} for x in (0, 100)]
    found = [{"image": 0, "cls": 0, "box": (x, 0, 10, 10), "score": s} for x, s in ((0, 0.9), (50, 0.8), (100, 0.7))]
    boxes = to_boxes(1, 1, labels, [*found, {"image": 0, "cls": 0, "box": (300, 0, 9, 9), "score": 0.1}])
    assert image_average_precision(boxes, find_errors(boxes).detections)[0] == pytest.approx(5 / 6)


def test_galleries_have_the_worst_by_score_and_by_loss():
    boxes = made_boxes()
    rows, _, errors = confident(boxes)
    cases = find_cases(boxes, errors, rows)
    shown = {name: [(c.error, c.image, c.score, round(c.loss, 3)) for c in group] for name, group in cases.items()}
    assert shown == {
        "False positives": [
            ("background", 2, 0.95, 1), ("duplicate", 0, 0.8, 0.1), ("localization", 0, 0.6, 0.6),
            ("background", 0, 0.5, 1),
        ],
        "Confusions": [("class", 0, 0.7, 0)],
        "False negatives": [("missed", 1, 0, 1), ("missed", 1, 0.1, 0)],  # nothing near; found below the confidence
    }  # fmt: skip
    for case in (case for group in cases.values() for case in group):
        assert case.detection < 0 or boxes.found.score[case.detection] == case.score
        assert case.label < 0 or boxes.labels.image[case.label] == case.image
    assert [(case.detection < 0, case.label < 0) for case in cases["False negatives"]] == [(True, False), (False,) * 2]
    few = find_cases(boxes, errors, rows, count=1)  # of both keys
    assert [(case.score, case.loss) for case in few["False positives"]] == [(0.95, 1)]
    assert [case.score for case in few["False negatives"]] == [0, 0.1]


def test_confusions_by_size():
    by_size = confusion_by_size(made_boxes())
    expected = {  # predicted, true; 2 is the background
        "small": {(0, 0): 1, (0, 2): 1, (1, 2): 1, (2, 1): 1},
        "medium": {(0, 1): 1, (0, 2): 2, (2, 0): 1},
        "large": {(0, 2): 1, (2, 0): 1},
    }
    for size, table in zip(SIZES, by_size, strict=True):
        assert {tuple(cell): int(table[tuple(cell)]) for cell in np.argwhere(table)} == expected[size]
    table = confusion_table(by_size, {0: "a", 1: "b"})
    assert table.titles == ["Predicted", "True", "small", "medium", "large", "all"]
    assert table.rows[0] == ["a", "background", 1, 2, 1, 4] and ["a", "b", 0, 1, 0, 1] in table.rows
    assert size_table(by_size).rows[-1] == ["all", 5, 1, 1, 3, 5, 1 / 7, 1 / 5]


@pytest.mark.parametrize("seed", range(8))
def test_sizes_add_up_to_the_confusion_matrix(seed):
    boxes = to_boxes(*random_set(seed))
    boxes = replace(boxes, found=boxes.found._replace(score=np.linspace(1, 0, len(boxes.found.score))))  # without ties
    matrix, found, labels = ConfusionMatrix(boxes.names), boxes.found, boxes.labels
    for image in range(len(boxes.ids)):
        own, true = found.image == image, (labels.image == image) & ~labels.crowd
        rows = np.column_stack([found.box[own], found.score[own], found.cls[own]])
        matrix.process_batch(torch.tensor(rows), torch.tensor(labels.box[true]), torch.tensor(labels.cls[true]))
    np.testing.assert_array_equal(confusion_by_size(boxes).sum(0), matrix.matrix)


def test_sets_without_labels_or_detections():
    for labels, found in ((np.zeros(6, bool), slice(None)), (slice(None), np.zeros(8, bool))):
        boxes = made_boxes().with_rows(found, labels)
        rows, some, errors = confident(boxes)
        ap = image_average_precision(boxes, find_errors(boxes).detections)
        table = image_table(boxes, errors, some.found, ap).rows
        totals = [sum(row[i] for row in table) for i in range(1, 5)]
        cases = find_cases(boxes, errors, rows)
        sizes = confusion_by_size(boxes).sum(0)
        if not len(boxes.labels.cls):
            assert totals == [0, 0, 7, 0] and np.isnan(ap).all() and sizes[:, 2].sum() == sizes.sum() == 7
            assert [len(group) for group in cases.values()] == [7, 0, 0]
        else:
            assert totals == [5, 0, 0, 5] and ap[:2].tolist() == [0, 0] and sizes[2].sum() == sizes.sum() == 5
            assert [len(group) for group in cases.values()] == [0, 0, 5]
