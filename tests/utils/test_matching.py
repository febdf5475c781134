import numpy as np
import pytest
import torch

from ultralytics.metrics.matching import match_pairs, match_predictions, paired_iou, pairs_of_groups
from ultralytics.utils.ops import box_iou


def one_after_the_other(iou: np.ndarray, threshold: float) -> list[int]:
    """What the matching is defined as: each prediction, best first, takes the free label it overlaps most."""
    free, found = set(range(len(iou))), []
    for overlaps in iou.T:
        best = max(free, key=lambda label: (overlaps[label], -label), default=None)
        found.append(best if best is not None and overlaps[best] >= threshold else -1)
        free.discard(found[-1])
    return found


@pytest.mark.parametrize("seed", range(30))
def test_all_at_once_is_one_after_the_other(seed):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 9), rng.integers(0, 40)
    # Of few levels, so that many overlaps are equal, and high, so that predictions want the same labels.
    iou = rng.choice([0.0, 0.5, 0.6, 0.7, 0.75, 0.9, 1.0], (labels, predictions)).astype(np.float32)
    found = match_predictions(iou, [0.5, 0.7, 0.95])
    for column, threshold in enumerate((0.5, 0.7, 0.95)):
        assert found[:, column].tolist() == one_after_the_other(iou, threshold)


def test_the_better_scored_prediction_has_the_label_even_if_another_overlaps_more():
    iou = np.array([[0.6, 0.9]])
    found = match_predictions(iou, [0.5, 0.7])
    assert found.tolist() == [[0, -1], [-1, 0]]


def test_images_do_not_mix():
    image_of_prediction, image_of_label = np.array([0, 0, 1, 1, 1, 3]), np.array([1, 0, 1, 2])
    prediction, label = pairs_of_groups(image_of_prediction, image_of_label, 4)
    assert list(zip(prediction.tolist(), label.tolist(), strict=True)) == [
        (0, 1), (1, 1), (2, 0), (2, 2), (3, 0), (3, 2), (4, 0), (4, 2),
    ]  # fmt: skip
    iou = np.array([0.9, 0.95, 0.6, 0.7, 0.9, 0.8, 0.9, 0.9], np.float32)
    (pairs,) = match_pairs(prediction, label, iou, [0.5])
    assert dict(zip(prediction[pairs].tolist(), label[pairs].tolist(), strict=True)) == {0: 1, 2: 2, 3: 0}


def test_no_pairs():
    nothing = np.zeros(0, int)
    assert [len(part) for part in pairs_of_groups(nothing, np.array([0, 1]), 2)] == [0, 0]
    assert [len(pairs) for pairs in match_pairs(nothing, nothing, np.zeros(0, np.float32), [0.5, 0.9])] == [0, 0]


def test_overlap_of_pairs_is_that_of_the_table():
    corners, sides = torch.rand(2, 50, 2) * 50, torch.rand(2, 50, 2) * 60
    one, other = torch.cat([corners, corners + sides], 2)
    table = box_iou(one, other).diagonal().numpy()
    assert np.array_equal(paired_iou(one.numpy(), other.numpy()), table) and (table > 0).any()
