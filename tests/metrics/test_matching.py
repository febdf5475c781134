import numpy as np
import pytest

from ultralytics.metrics.matching import match_pairs


def match_one_by_one(iou: np.ndarray, threshold: float) -> list[int]:
    """Match each prediction, best first, with the free label it overlaps most: the definition."""
    free, found = set(range(len(iou))), []
    for overlaps in iou.T:
        best = max(free, key=lambda label: (overlaps[label], -label), default=None)
        found.append(best if best is not None and overlaps[best] >= threshold else -1)
        free.discard(found[-1])
    return found


def match(iou: np.ndarray, thresholds: list[float]) -> list[list[int]]:
    """Match predictions (columns) and labels (rows) by `match_pairs`: the label of each prediction, or -1."""
    prediction, label = np.nonzero(iou.T >= 0)
    results = []
    for predictions, labels in match_pairs(prediction, label, iou[label, prediction], thresholds):
        found = np.full(iou.shape[1], -1)
        found[predictions] = labels
        results.append(found.tolist())
    return results


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
