"""The simulated detections are what they claim, and the sides agree on them as far as their definitions do."""

from types import SimpleNamespace

import metrics
import numpy as np
import pytest


def test_detections_are_sorted_and_of_each_image():
    images = 0
    for found, (image, boxes, cls) in metrics.simulate(20, 30, 5):
        assert found.shape == (len(found), 30, 6) and (np.diff(found[:, :, 4], axis=1) <= 0).all()
        assert ((found[:, :, 5] >= 0) & (found[:, :, 5] < 5)).all() and (cls < 5).all() and (image < len(found)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        images += len(found)
    assert images == 20


def test_ours_agrees_with_pycocotools():
    pytest.importorskip("pycocotools")
    args = SimpleNamespace(images=60, predictions=40, classes=3)
    ours, coco = (prepare(args)(None)[1] for prepare in (metrics.prepare_ours, metrics.prepare_coco))
    assert 0.3 < coco < 0.8 and ours == pytest.approx(coco, abs=0.01)
