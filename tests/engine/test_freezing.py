"""What stays as it is, by count, position, name and pattern."""

import pytest
import torch
from torch import nn

from ultralytics.cfg import get_cfg
from ultralytics.engine.optim import freeze_layers
from ultralytics.utils.errors import OptionError


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.plain = nn.BatchNorm1d(4, affine=False)


class Network(nn.Module):
    backbone_layers = frozenset({0, 1})

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(*(Block() for _ in range(12)))
        for index, layer in enumerate(self.model):
            layer.row_name = "stem" if index == 0 else None


ROW = ("attn.bias", "attn.weight", "norm.bias", "norm.weight")


def rows(*indices: int) -> set[str]:
    return {f"model.{index}.{name}" for index in indices for name in ROW}


@pytest.mark.parametrize(
    ("freeze", "frozen", "norms"),
    [
        (None, set(), 0),
        (0, set(), 0),
        (2, rows(0, 1), 4),
        ([1, 11], rows(1, 11), 4),
        ("1", rows(1), 2),
        ("stem", rows(0), 2),
        ("backbone", rows(0, 1), 4),
        ("model.1", rows(1), 2),
        ("model.1.", rows(1), 2),
        ("model.3.attn", {"model.3.attn.weight", "model.3.attn.bias"}, 0),
        ("model.3.norm.weight", {"model.3.norm.weight"}, 0),
        (["model.3.norm", "model.3.attn.bias"], {f"model.3.{n}" for n in ("norm.weight", "norm.bias", "attn.bias")}, 1),
        ("*.attn.*", {f"model.{i}.attn.{n}" for i in range(12) for n in ("weight", "bias")}, 0),
        ("model.[12].norm.*", {f"model.{i}.norm.{n}" for i in (1, 2) for n in ("weight", "bias")}, 2),
        ("['stem', model.3.attn.bias]", {*rows(0), "model.3.attn.bias"}, 2),
        ("0,1", rows(0, 1), 4),
        (["stem", 3, "*.norm.bias"], rows(0, 3) | {f"model.{i}.norm.bias" for i in range(12)}, 4),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # the same in every process
)
def test_what_is_frozen(freeze, frozen, norms):
    model = Network()
    found = freeze_layers(model, freeze)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == frozen
    assert len(found) == norms and all(isinstance(norm, nn.BatchNorm1d) for norm in found)


def test_statistics_of_frozen_normalisations_stay():
    model = Network()
    norms = freeze_layers(model, "backbone")
    model.train()
    for norm in norms:
        norm.eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    for layer in model.model:
        layer.plain(layer.norm(torch.randn(8, 4)))
    moved = {name.split(".")[1] for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert moved == {str(index) for index in range(2, 12)}


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (13, "no layer 12; the model has the layers 0 to 11"),
        ([99], "no layer 99"),
        ("99", "no layer 99"),
        ("model.12", "'model.12' fits no parameter; expected .*; did you mean 'model.2'?"),
        ("backbon", "did you mean 'backbone'"),
        ("stam", "did you mean 'stem'"),
        ("*.atn.*", "did you mean 'attn'"),
        (["stem", "head"], r"freeze=\['stem', 'head'\]: 'head' fits no parameter"),
        ("", "'' fits no parameter"),
    ],
    ids=str,
)
def test_what_fits_nothing_is_an_error_and_freezes_nothing(freeze, message):
    model = Network()
    with pytest.raises(OptionError, match=message):
        freeze_layers(model, freeze)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("value", [3, "backbone", "*.attn.*", [0, 2], ["stem", "model.0."]], ids=str)
def test_the_option_takes_all_of_these(value):
    assert get_cfg(overrides={"freeze": value}).freeze == value
