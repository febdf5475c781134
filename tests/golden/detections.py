"""The reference detections and labels, matched by our own metrics."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ultralytics.metrics.detection import DetMetrics

GOLDEN = Path(__file__).parent
NUMBERS = np.load(GOLDEN / "metrics_8.4.190.npz")
CASES = json.loads((GOLDEN / "metrics_8.4.190.json").read_text())["cases"]
BY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda c: f"case{c['case']}")


def matched(case: dict) -> tuple[DetMetrics, np.ndarray]:
    """The metrics of a reference case, and our (predictions, 10) matches."""
    labels, predictions = (torch.from_numpy(NUMBERS[f"c{case['case']}_{kind}"]) for kind in ("gt", "pred"))
    metrics = DetMetrics({i: f"class {i}" for i in range(case["nc"])})
    for image in range(case["images"]):
        own, true = predictions[predictions[:, 0] == image], labels[labels[:, 0] == image]
        metrics.add_image(own[:, [3, 4, 5, 6, 2, 1]], true[:, 2:], true[:, 1])
    return metrics.process(), metrics.matched.tp
