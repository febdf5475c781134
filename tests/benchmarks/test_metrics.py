"""The simulated detections are what they claim, and the sides agree on them as far as their definitions do."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield runpy.run_path(str(FOLDER / "metrics.py"))
    sys.modules.pop("interleave", None)


def test_detections_are_sorted_and_of_each_image(script):
    images = 0
    for found, (image, boxes, cls) in script["simulate"](20, 30, 5):
        assert found.shape == (len(found), 30, 6) and (np.diff(found[:, :, 4], axis=1) <= 0).all()
        assert ((found[:, :, 5] >= 0) & (found[:, :, 5] < 5)).all() and (cls < 5).all() and (image < len(found)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        images += len(found)
    assert images == 20


def test_ours_agrees_with_pycocotools(script):
    pytest.importorskip("pycocotools")
    args = SimpleNamespace(images=60, predictions=40, classes=3)
    ours, coco = (script[name](args)(None)[1] for name in ("prepare_ours", "prepare_coco"))
    assert 0.3 < coco < 0.8 and ours == pytest.approx(coco, abs=0.01)
