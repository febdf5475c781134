from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultralytics.utils.flops import FastShapes, copy_on_meta


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


def test_a_copy_on_meta_has_all_but_the_values():
    layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.LazyLinear(4))
    layer[2].weight = nn.Parameter(layer[2].weight.detach().to(memory_format=torch.channels_last))
    layer[0].bias.requires_grad_(False)
    layer[2].bias = layer[0].bias  # shared
    before = {name: value.clone() for name, value in layer[:3].state_dict().items()}

    twin = copy_on_meta(layer)

    for (name, ours), (same, theirs) in zip(
        twin[:3].state_dict(keep_vars=True).items(), layer[:3].state_dict(keep_vars=True).items(), strict=True
    ):
        assert name == same and ours.is_meta and type(ours) is type(theirs)
        assert ours.shape == theirs.shape and ours.stride() == theirs.stride() and ours.dtype == theirs.dtype
        assert ours.requires_grad == theirs.requires_grad
    assert twin[2].bias is twin[0].bias
    assert twin[1] is not layer[1] and not layer[0].weight.is_meta
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in before.items())


def test_a_copy_on_meta_takes_no_memory_for_weights(monkeypatch):
    """Neither the weights nor the statistics are copied on the way."""
    copied = []
    monkeypatch.setattr(Tensor, "__deepcopy__", lambda self, memo: copied.append(self) or self)
    monkeypatch.setattr(nn.Parameter, "__deepcopy__", lambda self, memo: copied.append(self) or self)
    copy_on_meta(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    assert not copied
