import numpy as np

from tests.golden.detections import BY_CASE, CASES, NUMBERS, judged
from ultralytics.metrics.detection import ConfusionMatrix


@BY_CASE
def test_confusion_matrix_agrees_with_the_reference(case):
    np.testing.assert_array_equal(judged(case)[0].confusion_matrix.matrix, NUMBERS[f"c{case['case']}_confusion"])


def test_a_prediction_may_meet_a_label_of_another_class():
    matrix = ConfusionMatrix({0: "a", 1: "b"})
    iou = np.array([[0.6, 0.5, 0.0], [0.0, 0.0, 0.44]])  # labels x predictions
    matrix.add_image(iou, conf=np.array([0.9, 0.8, 0.7]), pred_cls=np.array([1, 0, 1]), true_cls=np.array([0, 1]))
    assert matrix.matrix.tolist() == [[0, 0, 1], [1, 0, 1], [0, 1, 0]]


def test_views_of_the_matrix():
    matrix = judged(CASES[2])[0].confusion_matrix
    assert matrix.summary()[-1]["Predicted"] == "background"
    np.testing.assert_allclose(matrix.normalised().sum(0)[[0, 1, 3, 4]], 1)
    right, wrong = matrix.tp_fp()
    assert (right + wrong).sum() == matrix.matrix[:-1].sum()
