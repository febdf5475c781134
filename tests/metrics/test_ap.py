import numpy as np
import pytest

from tests.golden.detections import BY_CASE, NUMBERS, matched
from ultralytics.metrics.ap import ap_per_class, average_precision


@BY_CASE
def test_matches_agree_with_the_reference(case):
    np.testing.assert_array_equal(matched(case)[1], NUMBERS[f"c{case['case']}_tp"])


def test_average_precision_is_the_area_under_the_steps():
    area, recall, precision = average_precision(np.array([0.5, 0.5]), np.array([1.0, 0.5]))
    assert area == pytest.approx(0.495)
    assert recall[-1] == 1 and precision[-1] == 0


def test_a_class_without_predictions_scores_zero_and_one_without_labels_is_left_out():
    curves = ap_per_class(np.ones((2, 10), bool), np.array([0.9, 0.8]), np.array([1, 2]), np.array([0, 1]))
    assert curves.classes.tolist() == [0, 1]
    assert curves.ap[:, 0] == pytest.approx([0, 0.995])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_places_of_the_right_ones_are_enough(dtype):
    """The whole curves, point by point, as `average_precision` takes them."""
    rng = np.random.default_rng(0)
    conf = rng.random(4000).round(2).astype(dtype)  # many are equal: their order must be kept
    cls, target = rng.integers(0, 5, 4000), rng.integers(0, 4, 900)
    tp = rng.random((4000, 3)) < np.array([0.2, 0.05, 0.001]) * conf[:, None]
    curves = ap_per_class(tp, conf, cls.astype(dtype), target)
    for row in range(4):
        own = np.flatnonzero(cls == row)
        own = own[np.argsort(-conf[own], kind="stable")]
        right = tp[own].cumsum(0)
        recall, precision = right / (target == row).sum(), right / np.arange(1, len(own) + 1)[:, None]
        for column in range(3):
            area, x, y = average_precision(recall[:, column], precision[:, column])
            assert curves.ap[row, column] == pytest.approx(area, abs=1e-12)
            if column == 0:
                np.testing.assert_array_equal(curves.prec_values[row], np.interp(curves.x, x, y))
        np.testing.assert_array_equal(curves.r_curve[row], np.interp(-curves.x, -conf[own], recall[:, 0], left=0))
