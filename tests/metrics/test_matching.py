import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.golden.detections import BY_CASE, CASES, NUMBERS, matched
from ultralytics.metrics.boxes import Pairs
from ultralytics.metrics.detection import DetMetrics
from ultralytics.metrics.matching import ConfusionMatrix, assign


def match_one_by_one(iou: np.ndarray, threshold: float) -> list[int]:
    """Match each prediction, best first, with the free label it overlaps most: the definition."""
    free, found = set(range(len(iou))), []
    for overlaps in iou.T:
        best = max(free, key=lambda label: (overlaps[label], -label), default=None)
        found.append(best if best is not None and overlaps[best] >= threshold else -1)
        free.discard(found[-1])
    return found


def match(iou: np.ndarray, thresholds: list[float]) -> list[list[int]]:
    """Match predictions (columns) and labels (rows) by `assign`: the label of each prediction, or -1."""
    prediction, label = np.nonzero(iou.T >= 0)
    found = np.full((len(thresholds), iou.shape[1]), -1)
    matches = assign(Pairs(prediction, label, iou[label, prediction]), thresholds)
    found[matches.threshold, matches.detection] = matches.label
    return found.tolist()


@pytest.mark.parametrize("seed", range(30))
def test_vectorized_matching_is_greedy_matching(seed):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 9), rng.integers(0, 40)
    # few levels, so that many overlaps are equal, and high, so that predictions compete for labels
    iou = rng.choice([0.0, 0.5, 0.6, 0.7, 0.75, 0.9, 1.0], (labels, predictions)).astype(np.float32)
    thresholds = [0.5, 0.7, 0.95]
    assert match(iou, thresholds) == [match_one_by_one(iou, threshold) for threshold in thresholds]


def test_the_more_confident_prediction_gets_the_label_even_if_another_overlaps_more():
    assert match(np.array([[0.6, 0.9]]), [0.5, 0.7]) == [[0, -1], [-1, 0]]


@BY_CASE
def test_confusion_matrix_agrees_with_the_reference(case):
    np.testing.assert_array_equal(matched(case)[0].confusion_matrix.matrix, NUMBERS[f"c{case['case']}_confusion"])


def test_a_prediction_may_match_a_label_of_another_class():
    metrics = DetMetrics({0: "a", 1: "b"})
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    detections = torch.tensor([[0, 0, 10, 9, 0.9, 1], [0, 0, 9, 10, 0.8, 0], [80, 80, 90, 90, 0.7, 1]])
    metrics.add_image(detections, boxes, torch.tensor([0, 1]))
    assert metrics.confusion_matrix.matrix.tolist() == [[0, 0, 1], [1, 0, 1], [0, 1, 0]]


def test_views_of_the_matrix():
    matrix = matched(CASES[2])[0].confusion_matrix
    assert matrix.summary()[-1]["Predicted"] == "background"
    np.testing.assert_allclose(matrix.normalized().sum(0)[[0, 1, 3, 4]], 1)
    right, wrong = matrix.tp_fp()
    assert (right + wrong).sum() == matrix.matrix[:-1].sum()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("nc", [3, 80])
def test_matrices_are_drawn(nc, normalize, tmp_path):
    matrix = ConfusionMatrix({i: f"class {i}" for i in range(nc)})
    matrix.count(np.array([0, -1, 1]), np.array([0, 1, 2]), np.array([0, 2, 2]))
    path = matrix.plot(normalize, tmp_path)
    assert path.name == f"confusion_matrix{'_normalized' if normalize else ''}.png"
    assert np.asarray(Image.open(path).convert("RGB")).std() > 5


def test_confusion_matrix_as_csv_json_and_data_frame():
    matrix = ConfusionMatrix({0: "a", 1: "b"})
    matrix.count(np.array([0]), np.array([1]), np.array([0]))
    assert matrix.to_csv().splitlines()[:2] == ["Predicted,a,b,background", "a,0.0,0.0,0.0"]
    assert json.loads(matrix.to_json(normalize=True))[1] == {"Predicted": "b", "a": 1.0, "b": 0.0, "background": 0.0}
    assert pytest.importorskip("pandas") and list(matrix.to_df()["a"]) == [0, 1, 0]
