"""Options, classes and weights of RT-DETR's trainer, and `RTDETR.load`, on a few drawn images."""

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml

from tests.shapes import write_data
from ultralytics import RTDETR
from ultralytics.cfg import get_cfg
from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.data.synthetic import NAMES
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import DataError, OptionError, WeightsError

NETWORK = "rtdetr-efficientvit-m0.yaml"
REVERSED = [float(i) for i in reversed(range(len(NAMES)))]


@pytest.fixture
def prepared(shapes, tmp_path):
    """Set up a trainer of RT-DETR on the shapes: its network has its initial weights; its runs are in `runs`."""

    def prepare(network=None, setup=True, **changes) -> RTDETRTrainer:
        base = {"model": NETWORK, "data": str(shapes), "imgsz": 64, "batch": 2, "nbs": 2, "epochs": 1, "workers": 0}
        tiny = {"queries": 10, "denoising": 4, "device": "cpu", "plots": False, "project": str(tmp_path / "runs")}
        given = {**base, **tiny, **changes}
        trainer = RTDETRTrainer(get_cfg(overrides=given), given, model=network)
        if setup:
            trainer._setup_train()
        return trainer

    return prepare


def test_options_reach_network_loss_and_parameter_groups(prepared):
    trainer = prepared(loss_cls=3.0, backbone_lr_ratio=0.5)
    head = trainer.model.model[-1]
    assert (head.num_queries, head.num_denoising, head.nc) == (10, 4, len(NAMES))
    assert trainer.model.criterion.loss_gain.items() >= {"class": 3.0, "bbox": 5.0, "giou": 2.0}.items()
    rates = {group["name"]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert rates["backbone/decay"] == pytest.approx(rates["rest/decay"] / 2)


@pytest.mark.parametrize("missing", ["data", "model"])
def test_missing_option_is_named(prepared, tmp_path, missing):
    with pytest.raises(OptionError, match=f"{missing}: which"):
        prepared(**{missing: None})
    assert not list(tmp_path.iterdir())


def test_class_outputs_are_transferred_by_name(prepared, shapes, caplog):
    first = prepared(setup=False)
    first.train()
    one_more = str(write_data(shapes.parent / "shapes", "one_more.yaml", [*NAMES, "hexagon"]))
    second = prepared(data=one_more, model=str(first.best))
    assert second.model.nc == len(NAMES) + 1
    assert second.args.backbone_lr_ratio == 0.1  # it starts from weights
    assert first.args.backbone_lr_ratio == 1.0
    assert f"enc_score_head.bias ({len(NAMES)} of {len(NAMES) + 1} classes by name)" in caplog.text
    with pytest.raises(DataError, match="a resumed run keeps its classes"):
        prepared(data=one_more, resume=str(first.last), epochs=2)


def test_multi_scale_is_disabled_for_a_network_of_fixed_size(tiny, caplog):
    trainer, network = RTDETRTrainer(get_cfg(overrides={"imgsz": 640, "device": "cpu"})), RTDETRDetectionModel(tiny)
    trainer.disable_multi_scale_if_fixed(network)
    assert trainer.args.multi_scale
    network.model[2].register_forward_hook(lambda layer, inputs, maps: maps + maps.new_zeros(1, 1, 20, 20))
    trainer.disable_multi_scale_if_fixed(network)
    assert not trainer.args.multi_scale
    assert "multi_scale: turned off, as the network does not accept images of" in caplog.text


# Weights --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Write weights whose class i has the score bias i, with the class names of the data in reverse."""
    model = RTDETR(NETWORK)
    model.model = network = RTDETRDetectionModel(NETWORK, nc=len(NAMES))
    network.names = dict(enumerate(reversed(NAMES)))
    with torch.no_grad():
        network.model[-1].enc_score_head.bias.copy_(torch.arange(float(len(NAMES))))
        network.model[0].patch_embed[0].c.weight.fill_(0.25)
    file = tmp_path_factory.mktemp("weights") / "reverse.pt"
    model.save(file)
    return file


def score_bias(trainer: RTDETRTrainer) -> list[float]:
    return trainer.model.model[-1].enc_score_head.bias.tolist()


@pytest.mark.parametrize("option", ["pretrained", "model"])
def test_classes_of_weights_are_matched_by_name(option, weights, prepared):
    trainer = prepared(**{option: str(weights)})
    assert score_bias(trainer) == REVERSED
    assert trainer.model.names == dict(enumerate(NAMES))
    assert trainer.args.backbone_lr_ratio == 0.1


def test_classes_of_a_loaded_network_are_matched_by_name(weights, shapes, prepared):
    network = RTDETR(weights).model
    assert score_bias(prepared(network)) == REVERSED
    same = str(write_data(shapes.parent / "shapes", "reverse.yaml", list(reversed(NAMES))))
    state = prepared(network, data=same).model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_classifier_weights_load_into_the_backbone(prepared, tmp_path):
    source = timm.create_model("efficientvit_m0").state_dict()
    torch.save({"model": source}, tmp_path / "m0.pth")
    trainer = prepared(backbone_weights=str(tmp_path / "m0.pth"), freeze="backbone")
    backbone, first = trainer.model.model[:2]
    assert torch.equal(backbone.patch_embed[0].c.weight, source["patch_embed.conv1.conv.weight"])
    assert trainer.args.backbone_lr_ratio == 0.1  # pretrained
    assert not any(p.requires_grad for p in backbone.parameters()) and all(p.requires_grad for p in first.parameters())
    assert trainer.frozen_norms == [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_a_backbone_with_weights_in_its_row_learns_at_a_tenth_of_the_rate(prepared, tmp_path):
    torch.save({"model": RTDETR(NETWORK).model.model[0].state_dict()}, tmp_path / "m0.pth")
    text = (MODELS_DIR / "rt-detr" / NETWORK).read_text()
    (tmp_path / "net.yaml").write_text(text.replace("EfficientViT_M0, []", f"EfficientViT_M0, ['{tmp_path}/m0.pth']"))
    assert prepared(model=str(tmp_path / "net.yaml")).args.backbone_lr_ratio == 0.1


@pytest.mark.parametrize("option", ["pretrained", "backbone_weights"])
def test_other_weights_fail_before_the_run_starts(option, prepared, tmp_path):
    torch.save({"other.weight": torch.ones(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: none of its tensors fits"):
        prepared(**{option: str(tmp_path / "other.pth")})
    assert not (tmp_path / "runs").exists()


def test_load_copies_names_to_a_network_without_names(weights, tmp_path):
    content = {key: value for key, value in RTDETR(NETWORK).model.yaml.items() if key != "yaml_file"}
    (tmp_path / "six.yaml").write_text(yaml.safe_dump({**content, "nc": len(NAMES)}))
    model = RTDETR(tmp_path / "six.yaml").load(weights)
    assert model.names == dict(enumerate(reversed(NAMES)))
    assert score_bias(model) == REVERSED[::-1]
    other = RTDETR(NETWORK).load(weights)  # 80 classes
    assert other.names[0] == "0"
    assert other.model.state_dict()["model.0.patch_embed.0.c.weight"].unique().tolist() == [0.25]


@pytest.fixture
def published(weights, tmp_path) -> Path:
    """Write a file like the published package: the whole model in float16, and training arguments."""
    network = RTDETR(weights).model
    network.yaml = {**network.yaml, "channels": 3, "modules": str(tmp_path / "code")}
    file = tmp_path / "published.pt"
    torch.save(
        {
            "model": copy.deepcopy(network).half(),
            "ema": None,
            "epoch": -1,
            "train_args": {"lr0": 0.1, "pose": 12.0, "kobj": 1.0},
        },
        file,
    )
    return file


def test_published_file_builds_a_model(published, weights, caplog):
    with caplog.at_level("INFO", logger="ultralytics"):
        assert RTDETR(published).checkpoint["options"] == {"lr0": 0.1}
    assert "not used here" not in caplog.text  # one line for each option of other tasks
    ours, theirs = RTDETR(published), RTDETR(weights)
    assert ours.names == theirs.names
    assert "modules" not in ours.model.yaml  # a folder of code, which another file must not set
    loaded = ours.model.state_dict()
    for name, value in theirs.model.state_dict().items():
        rounded = value.half().float() if value.is_floating_point() else value
        assert loaded[name].dtype == value.dtype and torch.equal(loaded[name], rounded), name
    assert ours.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64)[0].names == theirs.names


def test_published_file_trains_further_but_does_not_resume(published, prepared, shapes):
    trainer = prepared(model=str(published))
    assert score_bias(trainer) == REVERSED and trainer.starts_pretrained()
    with pytest.raises(WeightsError, match="expected a checkpoint of this package"):
        RTDETR(published).train(data=str(shapes), resume=True)


def test_pickled_model_without_its_model_file_is_refused(published, tmp_path):
    content = torch.load(published, weights_only=False)
    del content["model"].yaml
    torch.save(content, tmp_path / "bare.pt")
    with pytest.raises(WeightsError, match=r"bare\.pt: contains \d+ tensors, but no model YAML\. Build the"):
        RTDETR(tmp_path / "bare.pt")
