import numpy as np
import pytest

from tests.golden.detections import BY_CASE, NUMBERS, matched
from ultralytics.metrics.ap import ap_per_class, average_precision


@BY_CASE
def test_matches_agree_with_the_reference(case):
    np.testing.assert_array_equal(matched(case)[1], NUMBERS[f"c{case['case']}_tp"])


def test_average_precision_is_the_area_under_the_steps():
    area, precision, recall = average_precision(np.array([0.5, 0.5]), np.array([1.0, 0.5]))
    assert area == pytest.approx(0.495)
    assert recall[-1] == 1 and precision[-1] == 0


def test_a_class_without_predictions_scores_zero_and_one_without_labels_is_left_out():
    curves = ap_per_class(np.ones((2, 10), bool), np.array([0.9, 0.8]), np.array([1, 2]), np.array([0, 1]))
    assert curves.classes.tolist() == [0, 1]
    assert curves.ap[:, 0] == pytest.approx([0, 0.995])
