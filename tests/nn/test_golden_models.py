"""Whole models against the reference: parameters, wiring, FLOPs and predictions."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden.fill import fill
from tests.golden.inputs import image
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.flops import get_flops

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = json.loads((GOLDEN / "rtdetr_models.json").read_text())
NUMBERS = np.load(GOLDEN / "rtdetr_models.npz")


@pytest.fixture(scope="module", params=MODELS, ids=str)
def reference(request) -> tuple[RTDETRDetectionModel, dict]:
    """A model with the reference's weights, and the reference."""
    expected = MODELS[request.param]
    return fill(RTDETRDetectionModel(f"{request.param}.yaml", nc=80), expected["gain"]), expected


def test_parameters_have_the_names_shapes_and_order_of_the_reference(reference):
    model, expected = reference
    crc = 0  # over names' values in order: another name, shape or order gives another number
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            crc = zlib.crc32(tensor.numpy().tobytes(), crc)
    assert crc == expected["weights_check"]["crc32"]
    assert sum(p.numel() for p in model.parameters()) == expected["n_params"]


def test_layers_are_numbered_and_wired_as_in_the_reference(reference):
    model, expected = reference
    layers = [[m.i, m.f, m.type.rsplit(".", 1)[-1], m.np] for m in model.model]
    assert layers == expected["layers"]
    assert model.save == expected["save"]
    assert model.stride.tolist() == [32.0]


def test_gflops_are_those_of_the_reference(reference):
    model, expected = reference
    assert get_flops(model) == pytest.approx(expected["gflops_thop_640"], rel=1e-5)


@torch.no_grad()
def test_predictions_are_those_of_the_reference(reference):
    model, expected = reference
    for case in expected["cases"]:
        y, (_, _, enc_bboxes, enc_scores, _) = model(torch.from_numpy(image(case["seed"], case["H"], case["W"])))
        for name, ours in (
            ("pred", y[0, :40]),
            ("enc_bboxes", enc_bboxes[0, :40]),
            ("enc_scores_max", enc_scores[0].amax(-1)),
        ):
            numbers = NUMBERS[f"{case['key']}_{name}"]
            assert np.abs(ours.numpy() - numbers).max() <= 1e-4 * np.abs(numbers).max(), (case["key"], name)
