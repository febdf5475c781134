"""Test-time augmentation of dense heads, against the published package; `complete` is in test_fork_heads.py."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.golden.fill import fill
from ultralytics.nn.head_protocol import can_augment
from ultralytics.nn.tasks import DetectionModel

REFERENCES = json.loads((Path(__file__).parents[1] / "golden" / "augment_8.4.190.json").read_text())


@pytest.mark.parametrize("name", REFERENCES)
def test_boxes_and_scores_of_three_scales_are_those_of_the_reference(name):
    model, expected = fill(DetectionModel(f"{name}.yaml"), 1.5), REFERENCES[name]
    if model.end2end:
        model.end2end = False
    images = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y, extras = model(images, augment=True)
    assert y.shape[2] == expected["positions"] and extras is None
    assert torch.allclose(y[0, :8].sum(1), torch.tensor(expected["sums"]), rtol=1e-5)
    assert torch.allclose(y[0, :6, ::45].T, torch.tensor(expected["y"]), atol=1e-3, rtol=1e-5)


def test_one_scale_where_boxes_of_several_cannot_be_merged(caplog):
    model = DetectionModel("yolo26n.yaml").eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images, augment=True)[0], model(images)[0])
    assert "augment=True has no effect: Detect predicts at one scale" in caplog.text
    assert not can_augment(nn.Identity()) and "Identity" in caplog.text
