"""The bottleneck of ResNet-vd."""

import pytest
import torch

from ultralytics.nn.parser import build_module


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
