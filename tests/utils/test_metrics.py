import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ultralytics.utils.ap import average_precision, match_predictions
from ultralytics.utils.boxes import box_iou
from ultralytics.utils.metrics import DetMetrics

GOLDEN = Path(__file__).parents[1] / "golden"
NUMBERS = np.load(GOLDEN / "metrics_8.4.190.npz")
CASES = json.loads((GOLDEN / "metrics_8.4.190.json").read_text())["cases"]
BY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda c: f"case{c['case']}")


def judged(case: dict) -> tuple[DetMetrics, np.ndarray]:
    """The metrics of a reference case, and our (predictions, 10) matches."""
    labels, predictions = (torch.from_numpy(NUMBERS[f"c{case['case']}_{kind}"]) for kind in ("gt", "pred"))
    metrics = DetMetrics({i: f"class {i}" for i in range(case["nc"])})
    tp = []
    for image in range(case["images"]):
        own, true = predictions[predictions[:, 0] == image], labels[labels[:, 0] == image]
        tp.append(metrics.add_image(own[:, [3, 4, 5, 6, 2, 1]], true[:, 2:], true[:, 1]))
    return metrics.process(), np.concatenate(tp)


@BY_CASE
def test_matches_agree_with_the_reference(case):
    np.testing.assert_array_equal(judged(case)[1], NUMBERS[f"c{case['case']}_tp"])


@BY_CASE
def test_class_numbers_agree_with_the_reference(case):
    box = judged(case)[0].box
    curves = box.curves
    ours = {
        "tp_at_max_f1": curves.tp,
        "fp_at_max_f1": curves.fp,
        "p": box.p,
        "r": box.r,
        "f1": box.f1,
        "ap": box.all_ap,
        "classes": box.ap_class_index,
        "p_curve_every10": curves.p_curve[:, ::10],
        "r_curve_every10": curves.r_curve[:, ::10],
        "f1_curve_every10": curves.f1_curve[:, ::10],
        "prec_values_every10": curves.prec_values[:, ::10],
        "maps": box.maps,
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values, NUMBERS[f"c{case['case']}_{name}"], rtol=0, atol=1e-9, err_msg=name)


@BY_CASE
def test_means_agree_with_the_reference(case):
    metrics = judged(case)[0]
    for name in ("mp", "mr", "map50", "map75", "map"):
        assert getattr(metrics.box, name) == pytest.approx(case[name], abs=1e-9), name
    assert metrics.results_dict == pytest.approx(case["results_dict"], abs=1e-9)
    assert metrics.fitness == pytest.approx(case["fitness"], abs=1e-9)
    assert metrics.labels.tolist() == case["nt_per_class"]
    assert metrics.images.tolist() == case["nt_per_image"]


@BY_CASE
def test_confusion_matrix_agrees_with_the_reference(case):
    np.testing.assert_array_equal(judged(case)[0].confusion_matrix.matrix, NUMBERS[f"c{case['case']}_confusion"])


def test_perfect_detections_have_full_marks():
    metrics = DetMetrics({0: "a", 1: "b"})
    boxes, cls = torch.tensor([[0.0, 0, 9, 9], [20, 20, 40, 50]]), torch.tensor([1.0, 0])
    metrics.add_image(torch.cat([boxes, torch.tensor([[0.9], [0.8]]), cls[:, None]], 1), boxes, cls)
    box = metrics.process().box
    assert (box.map50, box.map, box.mr) == pytest.approx((0.995, 0.995, 1), abs=1e-9)  # see average_precision
    assert metrics.confusion_matrix.matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_no_predictions_is_zero_and_no_labels_is_not_a_number():
    metrics = DetMetrics({0: "a"})
    metrics.add_image(torch.zeros(0, 6), torch.tensor([[0.0, 0, 9, 9]]), torch.zeros(1))
    assert metrics.process().results_dict == dict.fromkeys([*DetMetrics.keys, "fitness"], 0)
    assert metrics.confusion_matrix.matrix.tolist() == [[0, 0], [1, 0]]

    metrics = DetMetrics({0: "a"})
    metrics.add_image(torch.tensor([[0.0, 0, 9, 9, 0.9, 0]]), torch.zeros(0, 4), torch.zeros(0))
    assert all(math.isnan(v) for v in metrics.process().results_dict.values())
    assert metrics.confusion_matrix.matrix.tolist() == [[0, 1], [0, 0]]
    assert all(math.isnan(v) for v in DetMetrics({0: "a"}).process().results_dict.values())


def test_the_better_scored_prediction_has_the_label_even_if_another_overlaps_more():
    iou = np.array([[0.6, 0.9]])
    found = match_predictions(iou, [0.5, 0.7])
    assert found.tolist() == [[0, -1], [-1, 0]]


def test_average_precision_is_the_area_under_the_steps():
    area, recall, precision = average_precision(np.array([0.5, 0.5]), np.array([1.0, 0.5]))
    assert area == pytest.approx(0.495)
    assert recall[-1] == 1 and precision[-1] == 0


def test_tables_tell_class_images_and_numbers():
    metrics = judged(CASES[2])[0]
    summary = metrics.summary()
    assert [row["Class"] for row in summary] == ["all", "class 0", "class 1", "class 3", "class 4"]
    assert summary[0]["Instances"] == CASES[2]["n_gt"] and summary[0]["Images"] == CASES[2]["images"]
    lines = metrics.table().splitlines()
    assert len(lines) == 6 and lines[0].split()[-1] == "mAP50-95"
    assert len({len(line) for line in lines}) == 1
    assert len(metrics.table(classes=False).splitlines()) == 2
    assert metrics.confusion_matrix.summary()[-1]["Predicted"] == "background"
    np.testing.assert_allclose(metrics.confusion_matrix.normalised().sum(0)[[0, 1, 3, 4]], 1)
    right, wrong = metrics.confusion_matrix.tp_fp()
    assert (right + wrong).sum() == metrics.confusion_matrix.matrix[:-1].sum()


def test_box_iou_is_blind_to_stretching():
    """Why boxes of a stretched network image may be judged without taking them back to the original."""
    one, other = (torch.rand(4, 2, 2).cumsum(1).flatten(1) for _ in range(2))
    stretch = torch.tensor([3.0, 0.5, 3.0, 0.5])
    torch.testing.assert_close(box_iou(one * stretch, other * stretch), box_iou(one, other), rtol=1e-4, atol=1e-5)
