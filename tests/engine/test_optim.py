"""Parameter groups, learning rate schedule and frozen layers."""

import math

import pytest
import torch
from torch import nn

from ultralytics.engine.optim import EpochSchedule, Schedule, build_optimizer, freeze_layers, param_groups
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


def test_weight_decay_groups():
    assert grouped(Network()) == {
        "backbone/decay": (0.05, 0.01, {"model.0.0.weight"}),
        "backbone/no decay": (0.05, 0.0, {"model.0.0.bias", "model.0.1.weight", "model.0.1.bias"}),
        "rest/decay": (0.1, 0.01, {"model.1.embedding.weight", "model.2.weight"}),
        "rest/no decay": (
            0.1, 0.0, {"model.1.attention_biases", "model.1.norm.weight", "model.1.norm.bias", "model.2.bias"},
        ),
    }  # fmt: skip


def test_frozen_parameters_stay_in_their_group_and_train_once_unfrozen():
    model = Network()
    assert [type(norm).__name__ for norm in freeze_layers(model, [0, 1])] == ["BatchNorm2d", "LayerNorm"]
    groups = param_groups(model, lr=0.1, weight_decay=0.1, backbone_lr_ratio=1.0)
    optimizer, weight = build_optimizer("AdamW", groups, momentum=0.9), model.model[0][0].weight
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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("auto", "AdamW"),
        ("RMSProp", "RMSprop"),
        *((n, n) for n in ("AdamW", "Adam", "Adamax", "NAdam", "SGD")),
    ],
)
def test_build_optimizer(name, kind):
    groups = param_groups(Network(), lr=0.1, weight_decay=0.01, backbone_lr_ratio=0.5)
    optimizer = build_optimizer(name, groups, momentum=0.9)
    assert type(optimizer).__name__ == kind
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05, 0.1, 0.1]


@pytest.mark.parametrize(
    ("update", "lrf", "cosine", "expected"),
    [
        (0, 1.0, False, 0.1),
        (9, 1.0, False, 1.0),
        (10, 0.0, False, 1.0),
        (60, 0.2, False, 0.6),
        (60, 0.2, True, 0.6),
        (35, 0.0, True, (1 + math.cos(math.pi / 4)) / 2),
        (110, 0.2, True, 0.2),
        (500, 0.2, False, 0.2),
    ],
)
def test_schedule(update, lrf, cosine, expected):
    assert Schedule(total=110, warmup=10, lrf=lrf, cosine=cosine).factor(update) == pytest.approx(expected)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.plain = nn.BatchNorm1d(4, affine=False)


class Stages(nn.Module):
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
        (2, rows(0, 1), 4),
        ([1, 11], rows(1, 11), 4),
        ("1", rows(1), 2),
        ("stem", rows(0), 2),
        ("backbone", rows(0, 1), 4),
        ("model.1.", rows(1), 2),
        ("model.3.attn", {"model.3.attn.weight", "model.3.attn.bias"}, 0),
        (["model.3.norm", "model.3.attn.bias"], {f"model.3.{n}" for n in ("norm.weight", "norm.bias", "attn.bias")}, 1),
        ("*.attn.*", {f"model.{i}.attn.{n}" for i in range(12) for n in ("weight", "bias")}, 0),
        ("model.[12].norm.*", {f"model.{i}.norm.{n}" for i in (1, 2) for n in ("weight", "bias")}, 2),
        ("['stem', model.3.attn.bias]", {*rows(0), "model.3.attn.bias"}, 2),
        (["stem", 3, "*.norm.bias"], rows(0, 3) | {f"model.{i}.norm.bias" for i in range(12)}, 4),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # the same in every process
)
def test_freeze_layers(freeze, frozen, norms):
    model = Stages()
    found = freeze_layers(model, freeze)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == frozen
    assert len(found) == norms and all(isinstance(norm, nn.BatchNorm1d) for norm in found)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (13, "freeze=13: expected at most 12, the number of the model's layers"),
        ([19], r"freeze: '19' matches no parameter; expected the index \(below 12\).*parameter names$"),
        ("model.12", "'model.12' matches no parameter; expected .*; did you mean 'model.2'?"),
        ("stam", "did you mean 'stem'"),
        ("*.atn.*", "did you mean 'attn'"),
        (["stem", "head"], "freeze: 'head' matches no parameter"),
        ("", "'' matches no parameter"),
    ],
    ids=str,
)
def test_freeze_that_matches_nothing_is_an_error(freeze, message):
    model = Stages()
    with pytest.raises(OptionError, match=message):
        freeze_layers(model, freeze)
    assert all(parameter.requires_grad for parameter in model.parameters())


# Training of yolov8n by release 8.4.190, 6 batches of 4 an epoch, lr0=0.01, nbs=64: read by a callback on each batch.
# (epochs, warmup_epochs, cos_lr): batch, batches of a step, and rates of weights and biases, momentum
PUBLISHED = {
    (20, 3.0, False): [
        (0, 1, 0.0, 0.1, 0.8), (1, 2, 0.000556, 0.095, 0.807611), (5, 5, 0.002778, 0.075, 0.838056),
        (6, 6, 0.003168, 0.069835, 0.845667), (11, 10, 0.005809, 0.044698, 0.883722),
        (20, 16, 0.008515, 0.008515, 0.937), (60, 16, 0.00505, 0.00505, 0.937), (113, 16, 0.00109, 0.00109, 0.937),
        (119, 16, 0.000595, 0.000595, 0.937),
    ],
    (4, 0.5, True): [
        (1, 6, 0.003333, 0.07, 0.845667), (3, 16, 0.01, 0.01, 0.937), (6, 16, 0.00855, 0.00855, 0.937),
        (12, 16, 0.00505, 0.00505, 0.937), (23, 16, 0.00155, 0.00155, 0.937),
    ],
    (3, 0.0, False): [(0, 16, 0.01, 0.01, 0.937), (6, 16, 0.0067, 0.0067, 0.937), (17, 16, 0.0034, 0.0034, 0.937)],
}  # fmt: skip


@pytest.mark.parametrize("run", PUBLISHED)
def test_rates_momentum_and_accumulation_of_the_published_recipe(run):
    epochs, warmup, cosine = run
    schedule = EpochSchedule(
        total=0, warmup=round(min(warmup, epochs - 1) * 6), lrf=0.01, cosine=cosine, accumulate=16, epochs=epochs,
        per_epoch=6, bias_rate=0.1, momentum=(0.8, 0.937),
    )  # fmt: skip
    for batch, accumulated, *expected in PUBLISHED[run]:
        groups = [{"name": name, "initial_lr": 0.01, "momentum": 0.5} for name in ("decay", "bias")]
        schedule.set_rates(groups, update=0, batch=batch)
        assert schedule.batches(batch) == accumulated
        assert [groups[0]["lr"], groups[1]["lr"], groups[1]["momentum"]] == pytest.approx(expected, abs=1e-6)


def test_biases_may_be_a_group_of_their_own():
    groups = param_groups(Network(), lr=0.1, weight_decay=0.01, backbone_lr_ratio=1.0, biases=True)
    assert [(g["name"], g["weight_decay"], len(g["params"])) for g in groups] == [
        ("decay", 0.01, 3), ("no decay", 0.0, 3), ("bias", 0.0, 4)
    ]  # fmt: skip
    parts = param_groups(Network(), lr=0.1, weight_decay=0.01, backbone_lr_ratio=0.5, biases=True)
    assert [g["name"] for g in parts if g["name"].endswith("bias")] == ["backbone/bias", "rest/bias"]
