"""Parameter groups and the learning rate schedule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ultralytics.engine.optim import (
    build_optimizer,
    freeze_layers,
    learning_rate_factor,
    param_groups,
)
from ultralytics.utils.errors import OptionError


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_biases = nn.Parameter(torch.zeros(2, 9))
        self.norm = nn.LayerNorm((4, 4))
        self.embedding = nn.Embedding(3, 4)


class Network(nn.Module):
    backbone_layers = frozenset({0})

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), Attention(), nn.Linear(4, 2))


def grouped(model: nn.Module) -> dict[str, tuple[float, float, set[str]]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = param_groups(model, lr=0.1, weight_decay=0.01, backbone_lr_ratio=0.5)
    return {g["name"]: (g["lr"], g["weight_decay"], {names[id(p)] for p in g["params"]}) for g in groups}


def test_norms_biases_and_bias_tables_do_not_decay_and_embeddings_do():
    assert grouped(Network()) == {
        "backbone/decay": (0.05, 0.01, {"model.0.0.weight"}),
        "backbone/no decay": (0.05, 0.0, {"model.0.0.bias", "model.0.1.weight", "model.0.1.bias"}),
        "rest/decay": (0.1, 0.01, {"model.1.embedding.weight", "model.2.weight"}),
        "rest/no decay": (
            0.1, 0.0, {"model.1.attention_biases", "model.1.norm.weight", "model.1.norm.bias", "model.2.bias"},
        ),
    }  # fmt: skip


def test_frozen_parameters_keep_their_group_and_move_once_they_are_thawed():
    model = Network()
    norms = freeze_layers(model, [0, 1])
    assert [type(norm).__name__ for norm in norms] == ["BatchNorm2d", "LayerNorm"]
    groups = param_groups(model, lr=0.1, weight_decay=0.1, backbone_lr_ratio=1.0)
    optimizer, weight = build_optimizer("adamw", groups, momentum=0.9), model.model[0][0].weight
    before = weight.clone()
    for frozen in (True, False):
        weight.requires_grad_(not frozen)
        optimizer.zero_grad(set_to_none=True)
        (weight.sum() + model.model[2].weight.sum()).backward()
        optimizer.step()
        assert torch.equal(weight, before) == frozen
    freeze_layers(model, 3)
    with pytest.raises(OptionError, match="nothing is left to train"):
        grouped(model)


@pytest.mark.parametrize("freeze", [4, [7]])
def test_freezing_a_layer_that_is_not_there(freeze):
    with pytest.raises(OptionError, match=r"freeze=.*no layer .*layers 0 to 2"):
        freeze_layers(Network(), freeze)


@pytest.mark.parametrize(
    ("name", "kind"), [("AdamW", "AdamW"), ("auto", "AdamW"), ("Adam", "Adam"), ("SGD", "SGD"), ("Lion", None)]
)
def test_optimizers(name, kind):
    groups = param_groups(Network(), lr=0.1, weight_decay=0.01, backbone_lr_ratio=0.5)
    if kind is None:
        with pytest.raises(OptionError, match="optimizer='Lion': expected"):
            build_optimizer(name, groups, momentum=0.9)
        return
    optimizer = build_optimizer(name, groups, momentum=0.9)
    assert type(optimizer).__name__ == kind
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.05, 0.05, 0.1, 0.1]


@pytest.mark.parametrize(
    ("update", "lrf", "cosine", "expected"),
    [
        (0, 1.0, False, 0.1),
        (8, 1.0, False, 0.9),
        (9, 1.0, False, 1.0),
        (10, 0.0, False, 1.0),
        (60, 1.0, False, 1.0),
        (60, 0.2, False, 0.6),
        (60, 0.2, True, 0.6),
        (35, 0.0, True, (1 + math.cos(math.pi / 4)) / 2),
        (110, 0.2, True, 0.2),
        (500, 0.2, False, 0.2),
    ],
)
def test_schedule(update, lrf, cosine, expected):
    assert learning_rate_factor(update, warmup=10, total=110, lrf=lrf, cosine=cosine) == pytest.approx(expected)


def test_no_warmup_starts_at_the_full_rate():
    assert learning_rate_factor(0, warmup=0, total=0, lrf=0.5, cosine=False) == 1.0
