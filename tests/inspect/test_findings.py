"""What deserves a second look."""

import pytest
import torch
from torch import nn

from tests.inspect.models import row, small
from ultralytics.nn import plans
from ultralytics.nn.registry import REGISTRY, RegisteredModule
from ultralytics.nn.summary import ParameterUse, find_faults, inspect_model

CONV = [-1, 1, "Conv", [16, 1, 1]]


def warnings_of(*head, imgsz=64, **kwargs):
    return [str(warning) for warning in inspect_model(small(*head, **kwargs), imgsz).warnings]


def test_a_plain_model_has_none():
    assert warnings_of(CONV, CONV) == []


def test_layers_that_lead_nowhere():
    found = warnings_of(CONV, CONV, [0, 1, "Conv", [16, 1, 1]])
    assert len(found) == 2
    assert found[0].startswith("model head row 0: layer 1 Conv: only layers that lead nowhere read its output")
    assert found[1].startswith("model head row 1: layer 2 Conv: no layer reads its output; name it in the `from`")


def test_one_map_of_a_backbone_is_enough():
    backbone = row(4, (-1,), numbers=(2, 3, 4), strides=(8, 16, 32), outputs=((64, 80, 80),) * 3)
    rows = [backbone, row(5, (3,))]
    layers = [nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)]
    use = ParameterUse(layers[:1])
    with use:
        nn.functional.conv2d(nn.Parameter(layers[0].weight.detach()), layers[0].weight, layers[0].bias)
    assert find_faults(rows, layers, use) == []


def test_uneven_channels_are_told_once_where_they_arise():
    uneven = {"outputs": ((20, 80, 80),)}
    rows = [row(0, (-1,)), row(1, (0,), **uneven), row(2, (1,), inputs=uneven["outputs"], **uneven), row(3, (2,))]
    layers = [nn.ReLU() for _ in rows]
    found = list(map(str, find_faults(rows, layers, ParameterUse(layers[:-1]))))
    assert len(found) == 1 and "layer 1 Conv: 20 output channels are no multiple of 8" in found[0]
    assert "16 or 24 would be" in found[0]


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ([-1, 1, "nn.Identity", []], "layer 1 Identity: returns its input unchanged; delete the row"),
        ([[-1], 1, "Concat", [1]], "layer 1 Concat: returns its input unchanged"),
        ([-1, 1, "nn.Upsample", [None, 1, "nearest"]], "layer 1 Upsample: the map comes out in the size it went in"),
    ],
)
def test_layers_that_do_nothing(layer, text):
    found = warnings_of(layer, CONV)
    assert len(found) == 1 and text in found[0]


def test_normalisation_of_a_single_value():
    found = warnings_of([-1, 1, "nn.AdaptiveAvgPool2d", [1]], CONV, CONV)
    assert len(found) == 1  # the last layer's is its own affair: it is not watched
    assert "layer 2 Conv: batch normalisation 'bn' sees one value per channel" in found[0]


def test_parameters_that_no_forward_reads(monkeypatch):
    class Forgetful(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.used, self.spare = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 3)
            self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))

        def forward(self, x):
            return self.used(x) * self.gain

    entry = RegisteredModule("Forgetful", Forgetful, plans.channel_preserving, __file__)
    monkeypatch.setitem(REGISTRY, "Forgetful", entry)
    found = warnings_of([-1, 1, "Forgetful", []], CONV)
    assert len(found) == 1
    assert "Forgetful: its forward does not read parameter 'spare.weight' and 1 more in eval mode" in found[0]


@pytest.mark.parametrize(
    ("strides", "told"), [((8, 16, 32), False), ((4, 8, 16, 32), False), ((8, 8, 32), True), ((32, 16, 8), True)]
)
def test_strides_that_go_into_the_head(strides, told):
    maps = [row(i, (-1,), stride=s) for i, s in enumerate(strides)]
    head = row(len(maps), tuple(range(len(maps))), strides=(None,), outputs=((300, 84),))
    layers = [nn.ReLU() for _ in range(len(maps) + 1)]
    found = find_faults([*maps, head], layers, ParameterUse(layers[:-1]))
    shown = ", ".join(map(str, strides))
    assert [f"have strides {shown}; expected each twice" in str(finding) for finding in found] == [True] * told
