"""Paired bootstrap over images: AP with repeated images, and stored predictions."""

import json

import numpy as np
import pytest
import torch

from ultralytics.ablation.compare import Evaluated, command, compare_models, evaluate, paired_bootstrap
from ultralytics.cfg.options import get_cfg
from ultralytics.data.build import build_dataset
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.metrics.boxes import select
from ultralytics.metrics.detection import DetMetrics
from ultralytics.utils.errors import DataError, UserError


def detections(rng, images, noise):
    """Return metrics of a detector that shifts every box by `noise` pixels, and the labels per image."""
    metrics, labels = DetMetrics({0: "a", 1: "b"}), np.zeros((images, 2))
    for i in range(images):
        count = rng.integers(1, 5)
        corner = rng.uniform(0, 60, (count, 2))
        boxes = torch.tensor(np.concatenate((corner, corner + 30), 1))
        cls = torch.tensor(rng.integers(0, 2, count))
        moved = boxes + torch.tensor(rng.normal(0, noise, (count, 4)))
        rows = torch.cat((moved, torch.tensor(rng.random((count, 1))), cls[:, None]), 1)
        metrics.add_image(rows[rows[:, 4].argsort(descending=True)], boxes, cls)
        labels[i] = np.bincount(cls, minlength=2)
    return metrics, labels


def evaluated(metrics, labels):
    matched = metrics.matched
    return Evaluated(select(matched, np.argsort(-matched.conf, kind="stable")), labels)


def test_ap_of_all_images_is_that_of_the_metrics():
    metrics, labels = detections(np.random.default_rng(0), 40, 3.0)
    expected = metrics.process().box.all_ap.mean(0)
    assert evaluated(metrics, labels).mean_ap(np.ones(40)) == pytest.approx(expected, abs=1e-12)


def test_a_repeated_image_counts_twice():
    metrics, labels = detections(np.random.default_rng(0), 10, 0.0)  # perfect boxes
    assert evaluated(metrics, labels).mean_ap(np.arange(10.0)) == pytest.approx(np.full(10, 0.995))
    assert evaluated(metrics, labels).mean_ap(np.zeros(10)) == pytest.approx(np.full(10, np.nan), nan_ok=True)


def test_equal_models_do_not_differ_and_a_worse_one_does():
    good, labels = detections(np.random.default_rng(0), 60, 2.0)
    poor, _ = detections(np.random.default_rng(0), 60, 5.0)
    good, poor = evaluated(good, labels), evaluated(poor, labels)
    assert not paired_bootstrap(good, good, 20).any()
    table = compare_models(good, poor, 100)
    assert table.rows[0][-1] == "second is worse"
    assert table.rows[0][3] < 0
    assert compare_models(good, good, 100).rows[0][-1] == "not shown"


@pytest.fixture(scope="module")
def dataset():
    options = get_cfg(overrides={"mode": "val"})
    return build_dataset(options, load_dataset_config("shapes8.yaml", ("val",)), "val", training=False)


def entries(dataset):
    """Return the labels as perfect predictions."""
    rows = []
    for item in dataset.labels:
        height, width = item.shape
        for cls, (x, y, w, h) in zip(item.cls, item.boxes, strict=True):
            box = [float(v) for v in ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)]
            rows.append({"image_id": item.image_id, "category_id": int(cls) + 1, "bbox": box, "score": 0.9})
    return rows


def test_stored_predictions_are_matched_with_the_labels(tmp_path, dataset):
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps(entries(dataset)))
    found, _ = evaluate(str(file), "shapes8.yaml", "val", {})
    assert found.mean_ap(np.ones(len(dataset)))[0] == pytest.approx(0.995)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "other"}, "1 image that are not in"),
        ({"category_id": 77}, "category_id 77 is not among"),
        ({"bbox": None}, "bbox None of detection 0"),
    ],
)
def test_wrong_predictions(tmp_path, dataset, change, message):
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps([{**entries(dataset)[0], **change}]))
    with pytest.raises(DataError, match=message):
        evaluate(str(file), "shapes8.yaml", "val", {})


def test_the_command_takes_two_models():
    with pytest.raises(UserError, match="expected two models, got 1"):
        command(["a.pt"], "shapes8.yaml")
