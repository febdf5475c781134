"""Whole models against the reference: parameters, wiring, FLOPs and predictions."""

import zlib

import pytest

from tests.golden.fill import fill
from tests.golden.models import MODELS, check_predictions
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.flops import get_flops


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
    assert [[m.i, m.f, m.type.rsplit(".", 1)[-1], m.np] for m in model.model] == expected["layers"]
    assert model.save == expected["save"]
    assert model.stride.tolist() == [32.0]


def test_gflops_are_those_of_the_reference(reference):
    model, expected = reference
    assert get_flops(model) == pytest.approx(expected["gflops_thop_640"], rel=1e-5)


def test_predictions_are_those_of_the_reference(reference):
    check_predictions(*reference)
