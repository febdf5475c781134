"""The bottleneck of ResNet-vd and the model files that use it."""

import pytest
import torch

from ultralytics.nn.parser import build_module
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.flops import get_flops


@pytest.mark.parametrize(
    ("args", "channels", "shape"),
    [
        ((16,), 64, (64, 9, 7)),
        ((16, 1, True), 24, (64, 9, 7)),
        ((16, 2, True, "silu"), 24, (64, 5, 4)),  # an odd side is rounded up, as the pooling of the shortcut does
    ],
    ids=["plain", "projected", "halved"],
)
def test_a_row_of_its_own(args, channels, shape):
    block = build_module("BottleNeck", args, [(channels, 9, 7)])
    x = torch.rand(2, channels, 9, 7)
    assert block(x).shape[1:] == shape and block.outputs == [shape]
    block(x).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


@pytest.mark.parametrize(
    ("name", "parameters", "gflops"),
    [("rtdetr-r50", 42_944_364, 136.7), pytest.param("rtdetr-r101", 76_661_484, 259.9, marks=pytest.mark.slow)],
)
def test_size_of_the_official_models(name, parameters, gflops):
    """The paper, table 2: 42 M and 136 GFLOPs, 76 M and 259 GFLOPs."""
    model = RTDETRDetectionModel(f"{name}.yaml")
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert get_flops(model) == pytest.approx(gflops, abs=0.05)
