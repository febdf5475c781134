"""Weights through the options of RT-DETR's trainer and through `RTDETR.load`."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml

from tests.shapes import write_data, write_shapes
from ultralytics import RTDETR
from ultralytics.cfg import get_cfg
from ultralytics.data.synthetic import NAMES
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.utils.errors import WeightsError

NETWORK = "rtdetr-efficientvit-m0.yaml"
SCORE = "enc_score_head.bias"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return str(write_shapes(tmp_path_factory.mktemp("data"), train=4, val=2))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Write weights whose class i has the score bias i, with the class names of the data in reverse."""
    model = RTDETR(NETWORK)
    network = type(model.model)(NETWORK, nc=len(NAMES))
    network.names = dict(enumerate(reversed(NAMES)))
    with torch.no_grad():
        network.model[-1].enc_score_head.bias.copy_(torch.arange(float(len(NAMES))))
        network.model[0].patch_embed[0].c.weight.fill_(0.25)
    model.model = network
    model.save(tmp_path_factory.mktemp("weights") / "reverse.pt")
    return next(Path(tmp_path_factory.getbasetemp()).glob("weights*/reverse.pt"))


def prepared(data, folder, network=None, **changes) -> RTDETRTrainer:
    base = {"model": NETWORK, "data": data, "imgsz": 64, "batch": 2, "epochs": 1, "workers": 0, "device": "cpu"}
    given = {**base, "plots": False, "project": str(folder), **changes}
    trainer = RTDETRTrainer(get_cfg(overrides=given), model=network, overrides=given)
    trainer.setup()
    return trainer


def score_bias(trainer: RTDETRTrainer) -> list[float]:
    return trainer.model.state_dict()[f"model.{len(trainer.model.model) - 1}.{SCORE}"].tolist()


REVERSED = [float(i) for i in reversed(range(len(NAMES)))]


@pytest.mark.parametrize("option", ["pretrained", "model"])
def test_classes_of_weights_are_matched_by_name(option, weights, data, tmp_path):
    trainer = prepared(data, tmp_path, **{option: str(weights)})
    assert score_bias(trainer) == REVERSED
    assert trainer.model.names == dict(enumerate(NAMES))
    assert trainer.args.backbone_lr_ratio == 0.1


def test_classes_of_a_loaded_network_are_matched_by_name(weights, data, tmp_path):
    model = RTDETR(weights)
    assert score_bias(prepared(data, tmp_path, network=model.model)) == REVERSED
    same = str(write_data(Path(data).parent / "shapes", "reverse.yaml", list(reversed(NAMES))))
    state = prepared(same, tmp_path, network=model.model).model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.model.state_dict().items())


def test_classifier_weights_load_into_the_backbone(data, tmp_path):
    file = tmp_path / "m0.pth"
    source = timm.create_model("efficientvit_m0").state_dict()
    torch.save({"model": source}, file)
    trainer = prepared(data, tmp_path, backbone_weights=str(file), freeze="backbone")
    state = trainer.model.state_dict()
    assert torch.equal(state["model.0.patch_embed.0.c.weight"], source["patch_embed.conv1.conv.weight"])
    assert trainer.args.backbone_lr_ratio == 0.1  # pretrained
    assert not any(p.requires_grad for p in trainer.model.model[0].parameters())
    assert all(p.requires_grad for p in trainer.model.model[1].parameters())
    assert len(trainer.frozen_norms) == sum(
        isinstance(m, torch.nn.BatchNorm2d) for m in trainer.model.model[0].modules()
    )


@pytest.mark.parametrize("option", ["pretrained", "backbone_weights"])
def test_other_weights_fail_before_the_run_starts(option, data, tmp_path):
    torch.save({"other.weight": torch.ones(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: none of its 1 tensors fits"):
        prepared(data, tmp_path / "runs", **{option: str(tmp_path / "other.pth")})
    assert not (tmp_path / "runs").exists()


def test_load_copies_names_to_a_network_without_names(weights):
    small = yaml.safe_load(yaml.safe_dump(dict(RTDETR(NETWORK).model.yaml)))
    file = weights.parent / "six.yaml"
    file.write_text(yaml.safe_dump({**{k: v for k, v in small.items() if k != "yaml_file"}, "nc": len(NAMES)}))
    model = RTDETR(file).load(weights)
    assert model.names == dict(enumerate(reversed(NAMES)))
    assert model.model.model[-1].enc_score_head.bias.tolist() == [float(i) for i in range(len(NAMES))]
    other = RTDETR(NETWORK).load(weights)  # 80 classes
    assert other.names[0] == "0"
    assert other.model.state_dict()["model.0.patch_embed.0.c.weight"].unique().tolist() == [0.25]


@pytest.fixture
def published(weights, tmp_path) -> Path:
    """Write a file like the published package: the whole model in float16, and training arguments."""
    network = RTDETR(weights).model
    network.yaml = {**network.yaml, "channels": 3, "modules": str(tmp_path / "code")}
    file = tmp_path / "published.pt"
    torch.save({"model": copy.deepcopy(network).half(), "ema": None, "epoch": -1, "train_args": {"lr0": 0.1}}, file)
    return file


def test_published_file_builds_a_model(published, weights):
    ours, theirs = RTDETR(published), RTDETR(weights)
    assert ours.names == theirs.names
    assert "modules" not in ours.model.yaml  # a folder of code, which another file must not set
    loaded = ours.model.state_dict()
    for name, value in theirs.model.state_dict().items():
        rounded = value.half().float() if value.is_floating_point() else value
        assert loaded[name].dtype == value.dtype and torch.equal(loaded[name], rounded), name
    assert ours.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64)[0].names == theirs.names


def test_published_file_trains_further_but_does_not_resume(published, data, tmp_path):
    trainer = prepared(data, tmp_path, model=str(published))
    assert score_bias(trainer) == REVERSED and trainer.starts_pretrained()
    with pytest.raises(WeightsError, match="expected a checkpoint of this package"):
        RTDETR(published).train(data=data, resume=True)


def test_pickled_model_without_its_model_file_is_refused(published, tmp_path):
    content = torch.load(published, weights_only=False)
    del content["model"].yaml
    torch.save(content, tmp_path / "bare.pt")
    with pytest.raises(WeightsError, match=r"bare\.pt: contains \d+ tensors, but no model YAML\. Build the"):
        RTDETR(tmp_path / "bare.pt")
