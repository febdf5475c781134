from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultralytics.utils.meta_device import FastShapes


def sample(device: str, values: tuple[int, ...], points: tuple[int, ...]) -> Tensor:
    return F.grid_sample(torch.zeros(values, device=device), torch.zeros(points, device=device), align_corners=False)


def normalise(device: str, layer: type[nn.Module], shape: tuple[int, ...]) -> Tensor:
    return layer(4).eval().to(device)(torch.zeros(shape, device=device))


CALLS = [
    lambda device: sample(device, (2, 3, 8, 6), (2, 5, 7, 2)),
    lambda device: sample(device, (2, 3, 8, 6, 4), (2, 5, 7, 9, 3)),
    lambda device: normalise(device, nn.BatchNorm2d, (2, 4, 5, 3)),
    lambda device: normalise(device, nn.BatchNorm1d, (2, 4)),
    lambda device: F.batch_norm(torch.zeros(2, 4, 5, device=device), None, None, training=True),
    lambda device: F.grid_sample(input=torch.zeros(1, 2, 3, 4, device=device), grid=torch.zeros(1, 5, 6, 2).to(device)),
]


@pytest.mark.filterwarnings("ignore:Default grid_sample")
@pytest.mark.parametrize("call", CALLS)
def test_shapes_are_those_of_the_function(call: Callable[[str], Tensor]):
    expected = call("cpu")

    with FastShapes():
        shapes, values = call("meta"), call("cpu")

    assert shapes.is_meta and shapes.shape == expected.shape and shapes.dtype == expected.dtype
    assert torch.equal(values, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda: sample("meta", (2, 3, 8, 6), (1, 5, 7, 2)),
        lambda: normalise("meta", nn.BatchNorm2d, (2, 5, 5, 3)),
    ],
)
def test_what_does_not_fit_is_an_error_of_the_function(call: Callable[[], Tensor]):
    with FastShapes(), pytest.raises(RuntimeError):
        call()


def test_strides_follow_the_memory_format():
    images = torch.zeros(1, 4, 6, 6, device="meta").to(memory_format=torch.channels_last)

    with FastShapes():
        output = nn.BatchNorm2d(4).eval().to("meta")(images)

    assert output.is_contiguous(memory_format=torch.channels_last)
