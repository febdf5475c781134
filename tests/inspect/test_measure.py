"""The numbers of the layers."""

import pytest
import torch

from tests.inspect.models import inspected, small
from ultralytics.nn.summary import inspect_model
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.flops import get_flops_with_attention


@pytest.mark.parametrize("name", ["rtdetr-efficientvit-m0.yaml", "rtdetr-l.yaml"])
def test_the_layers_add_up_to_the_model(name):
    result = inspected(name)
    with torch.device("meta"):
        model = RTDETRDetectionModel(name)
    assert sum(row.flops for row in result.rows) / 1e9 == pytest.approx(get_flops_with_attention(model))
    assert result.info.gflops_attention == pytest.approx(get_flops_with_attention(model))
    assert sum(row.parameters for row in result.rows) == result.info.parameters
    assert result.warnings == ()


def test_a_convolution_and_copies_in_sequence_by_hand():
    rows = inspect_model(small([-1, 3, "Conv", [16, 1, 1]]), imgsz=64).rows
    assert rows[0].flops == 2 * 3 * 16 * 9 * 32 * 32
    assert rows[1].flops == 3 * 2 * 16 * 16 * 32 * 32  # each of the three once
    assert (rows[1].module, rows[1].sources, rows[1].outputs) == ("Conv x3", (0,), ((16, 32, 32),))


def test_attention_is_counted():
    last = inspect_model(small([-1, 1, "AIFI", [24, 2]], [-1, 1, "Conv", [8, 1, 1]]), imgsz=64).rows[1]
    tokens, c = 32 * 32, 16
    products = 4 * c * c * tokens + 2 * tokens * tokens * c + 2 * c * 24 * tokens
    assert last.flops == 2 * products and last.kind == "attention"


def test_maps_of_a_backbone_have_their_numbers_and_strides():
    result = inspected("rtdetr-efficientvit-m0.yaml")
    backbone, head = result.rows[0], result.rows[-1]
    assert backbone.numbers == (1, 2, 3, 4) and backbone.strides == (8, 8, 16, 32)
    assert backbone.outputs == ((64, 80, 80), (64, 80, 80), (128, 40, 40), (192, 20, 20))
    assert backbone.sources == (-1,) and result.image == (3, 640, 640)
    assert head.sources == (16, 19, 22) and head.outputs == ((300, 84),) and head.strides == (None,)
    assert [row.kind for row in result.rows[:4]] == ["backbone", "convolution", "attention", "convolution"]
    assert {row.kind for row in result.rows if row.module == "Concat"} == {"fusion"}
    assert {row.kind for row in result.rows if row.module == "Upsample"} == {"sampling"}


def test_the_model_is_left_as_it_was():
    model = small([-1, 1, "Conv", [8]]).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    inspect_model(model, imgsz=32)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_size_the_model_cannot_take_is_an_error():
    rows = ([-1, 1, "Conv", [16, 3, 2]], [-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[-1, 0], 1, "Concat", [1]])
    assert inspect_model(small(*rows), imgsz=64).rows[-1].outputs == ((32, 32, 32),)
    with pytest.raises(ModelConfigError, match=r"forward fails on an image \(1, 3, 66, 66\)"):
        inspect_model(small(*rows), imgsz=66)
