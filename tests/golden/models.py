"""Reference models: their files, and predictions for some images."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.golden.inputs import image

GOLDEN = Path(__file__).parent
MODELS = json.loads((GOLDEN / "rtdetr_models.json").read_text())
NUMBERS = np.load(GOLDEN / "rtdetr_models.npz")


@torch.no_grad()
def check_predictions(model: nn.Module, expected: dict) -> None:
    """Compare the predictions of a filled model with those of the reference."""
    for case in expected["cases"]:
        y, (_, _, enc_bboxes, enc_scores, _) = model(torch.from_numpy(image(case["seed"], case["H"], case["W"])))
        found = {"pred": y[0, :40], "enc_bboxes": enc_bboxes[0, :40], "enc_scores_max": enc_scores[0].amax(-1)}
        for name, ours in found.items():
            numbers = NUMBERS[f"{case['key']}_{name}"]
            assert np.abs(ours.numpy() - numbers).max() <= 1e-4 * np.abs(numbers).max(), (case["key"], name)
