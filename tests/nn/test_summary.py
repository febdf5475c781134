"""Layer table: numbers of the layers, warnings about likely mistakes, text and CSV."""

import csv
import io
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from ultralytics.nn import plans
from ultralytics.nn.registry import REGISTRY, RegisteredModule
from ultralytics.nn.summary import (
    Inspection,
    LayerRow,
    find_warnings,
    inspect_model,
    layer_report,
    layer_table,
    layers_csv,
)
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.flops import model_info

CONV = [-1, 1, "Conv", [16, 1, 1]]


def small(*head: list) -> DetectionModel:
    """Build a convolution of stride 2 as backbone, and the given rows."""
    return DetectionModel({"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": list(head)})


@cache
def inspected(name: str) -> Inspection:
    with torch.device("meta"):
        model = RTDETRDetectionModel(name)
    return inspect_model(model)


def row(index: int, sources: tuple[int, ...], stride: float = 8, **changes: object) -> LayerRow:
    """Return a row without a module, with one map of that stride."""
    shape = (64, int(640 / stride), int(640 / stride))
    made = LayerRow(
        index, str(list(sources)), sources, (index,), None, "Conv", "c1=64, c2=64", "", (shape,), (shape,), (stride,),
        100, 1000, "convolution", False, f"x.yaml:{index + 1}",
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize("name", ["rtdetr-efficientvit-m0.yaml", "rtdetr-l.yaml"])
def test_layers_add_up_to_the_model(name):
    result = inspected(name)
    with torch.device("meta"):
        model = RTDETRDetectionModel(name)
    expected = model_info(model, verbose=False).gflops_attention
    assert sum(row.flops for row in result.rows) / 1e9 == pytest.approx(expected)
    assert result.info.gflops_attention == pytest.approx(expected)
    assert sum(row.parameters for row in result.rows) == result.info.parameters
    assert result.warnings == ()


def test_flops_of_a_convolution_copies_and_attention_by_hand():
    rows = inspect_model(small([-1, 3, "Conv", [16, 1, 1]], [-1, 1, "AIFI", [24, 2]], CONV), imgsz=64).rows
    assert rows[0].flops == 2 * 3 * 16 * 9 * 32 * 32
    assert rows[1].flops == 3 * 2 * 16 * 16 * 32 * 32
    assert (rows[1].module, rows[1].sources, rows[1].outputs) == ("Conv x3", (0,), ((16, 32, 32),))
    tokens, c = 32 * 32, 16
    products = 4 * c * c * tokens + 2 * tokens * tokens * c + 2 * c * 24 * tokens
    assert rows[2].flops == 2 * products and rows[2].kind == "attention"


def test_maps_of_a_backbone_have_numbers_and_strides():
    result = inspected("rtdetr-efficientvit-m0.yaml")
    backbone, head = result.rows[0], result.rows[-1]
    assert backbone.numbers == (1, 2, 3, 4) and backbone.strides == (8, 8, 16, 32)
    assert backbone.outputs == ((64, 80, 80), (64, 80, 80), (128, 40, 40), (192, 20, 20))
    assert backbone.sources == (-1,) and result.image == (3, 640, 640)
    assert head.sources == (16, 19, 22) and head.outputs == ((300, 84),) and head.strides == (None,)
    assert [row.kind for row in result.rows[:4]] == ["backbone", "convolution", "attention", "convolution"]
    assert {row.kind for row in result.rows if row.module == "Concat"} == {"fusion"}
    assert {row.kind for row in result.rows if row.module == "Upsample"} == {"sampling"}


def test_the_model_does_not_change():
    model = small([-1, 1, "Conv", [8]]).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    inspect_model(model, imgsz=32)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_size_that_fails_is_an_error():
    rows = ([-1, 1, "Conv", [16, 3, 2]], [-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[-1, 0], 1, "Concat", [1]])
    assert inspect_model(small(*rows), imgsz=64).rows[-1].outputs == ((32, 32, 32),)
    with pytest.raises(ModelConfigError, match=r"forward fails on an image \(1, 3, 66, 66\)"):
        inspect_model(small(*rows), imgsz=66)


class Forgetful(nn.Module):
    """A module with two parameters that forward does not read."""

    def __init__(self, channels):
        super().__init__()
        self.used, self.spare = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 3)
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x):
        return self.used(x) * self.gain


@pytest.mark.parametrize(
    ("head", "texts"),
    [
        ((CONV, CONV), []),
        (
            (CONV, CONV, [0, 1, "Conv", [16, 1, 1]]),
            ["row 0: layer 1 Conv: only unused layers read", "row 1: layer 2 Conv: no layer reads its output"],
        ),
        (([-1, 1, "nn.Identity", []], CONV), ["layer 1 Identity: returns its input unchanged; delete the row"]),
        (([[-1], 1, "Concat", [1]], CONV), ["layer 1 Concat: returns its input unchanged"]),
        (([-1, 1, "nn.Upsample", [None, 1, "nearest"]], CONV), ["layer 1 Upsample: does not change the size"]),
        (([-1, 1, "Forgetful", []], CONV), ["does not read parameter 'spare.weight' and 1 more in eval mode"]),
    ],
)
def test_warnings_of_models(head, texts, monkeypatch):
    entry = RegisteredModule("Forgetful", Forgetful, plans.channel_preserving, __file__)
    monkeypatch.setitem(REGISTRY, "Forgetful", entry)
    found = inspect_model(small(*head), 64).warnings
    assert len(found) == len(texts) and all(text in warning for text, warning in zip(texts, found, strict=True))


def test_uneven_channels_are_reported_where_they_first_occur():
    uneven = {"outputs": ((20, 80, 80),)}
    rows = [row(0, (-1,)), row(1, (0,), **uneven), row(2, (1,), inputs=uneven["outputs"], **uneven), row(3, (2,))]
    (found,) = find_warnings(rows)
    assert "layer 1 Conv: 20 output channels, no multiple of 8" in found and "use 16 or 24" in found


@pytest.mark.parametrize(
    ("strides", "warned"), [((8, 16, 32), 0), ((4, 8, 16, 32), 0), ((8, 8, 32), 1), ((32, 16, 8), 1)]
)
def test_strides_of_the_inputs_of_the_head(strides, warned):
    maps = [row(i, (-1,), stride=s) for i, s in enumerate(strides)]
    found = find_warnings([*maps, row(len(maps), tuple(range(len(maps))), strides=(None,), outputs=((300, 84),))])
    shown = ", ".join(map(str, strides))
    assert [f"have strides {shown}; expected each twice" in warning for warning in found] == [True] * warned


def test_the_table():
    lines = layer_report(inspected("rtdetr-efficientvit-m0.yaml")).splitlines()
    assert lines[1].split()[:2] == ["4", "-1"] and "64x80x80 64x80x80 128x40x40 192x20x20  8 8 16 32" in lines[1]
    assert lines[-2].split() == ["sum", "11,008,848", "29.652"]
    assert lines[-1].startswith("20 rows, ") and "30.02 GFLOPs at 640x640 by thop" in lines[-1]
    assert max(map(len, lines)) < 180


def test_the_most_expensive_first():
    result = inspected("rtdetr-efficientvit-m0.yaml")
    rows = layer_table(result, [1.0, 7.0, 3.0, *[0.0] * 17], "time").rows
    assert [row[11] for row in rows[:3]] == [7.0, 3.0, 1.0] and rows[-1][11] == 11.0
    by_parameters = [row[7] for row in layer_table(result, sort="parameters").rows[:-1]]
    assert by_parameters == sorted(by_parameters, reverse=True) and sum(by_parameters) == 11008848


def test_the_table_has_names_inferred_arguments_and_warnings():
    rows = (row(0, (-1,), name="stem"), row(1, (0,), assumed="c1 from the input", arguments="c1=1, " * 20))
    result = replace(inspected("rtdetr-efficientvit-m0.yaml"), rows=rows, warnings=("x.yaml:2: layer 1: odd",))
    text = layer_report(result)
    assert "stem" in text and "Conv*" in text and "c1=1,..." in text
    assert "  x.yaml:2: layer 1 Conv: c1 from the input" in text
    assert text.endswith("warning: x.yaml:2: layer 1: odd")


def test_the_csv_has_all_of_every_layer():
    result = inspected("rtdetr-efficientvit-m0.yaml")
    lines = list(csv.DictReader(io.StringIO(layers_csv(result))))
    assert [line["index"] for line in lines] == [str(r.index) for r in result.rows]
    assert lines[0]["sources"] == "-1" and lines[0]["outputs"] == "64x80x80;64x80x80;128x40x40;192x20x20"
    assert lines[0]["strides"] == "8.0;8.0;16.0;32.0" and lines[0]["in_backbone"] == "True"
    assert sum(int(line["flops"]) for line in lines) == sum(r.flops for r in result.rows)
    assert lines[1]["arguments"] == result.rows[1].arguments
