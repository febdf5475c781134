"""Naming schemes with whole models: the official RT-DETR, classifiers for the backbone, prefixes, classes."""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
import yaml
from torch import nn

from tests.golden.inputs import image
from ultralytics import RTDETR
from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.engine.exporter import compare
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.nn.weights import Weights, load_backbone, load_weights
from ultralytics.nn.weights.load import match_epsilon
from ultralytics.nn.weights.read import complete_official
from ultralytics.utils.errors import WeightsError

OFFICIAL = np.load(Path(__file__).parents[2] / "golden" / "official_rtdetr.npz")


def official_weights(name: str) -> dict[str, torch.Tensor]:
    """Tensors of the official model that follow from their names; the signal neither dies out nor explodes."""
    weights = {}
    for key, shape in zip(OFFICIAL[f"{name}_names"], OFFICIAL[f"{name}_shapes"], strict=True):
        shape = shape[shape >= 0].tolist()
        value = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, dtype=np.float32)
        if key.endswith("num_batches_tracked"):
            value = np.zeros(shape, np.int64)
        elif key.endswith("running_var"):
            value = np.abs(value) * 0.3 + 0.02  # small ones, so that a wrong epsilon shows
        elif len(shape) == 1:
            last = key.endswith(("branch2c.norm.weight", "branch2b.norm.weight"))
            value = (1 + 0.1 * value) * (0.2 if last else 0.6) if key.endswith("weight") else 0.1 * value
        else:
            value = value * np.float32((1.0 if len(shape) == 4 else 0.8) / math.sqrt(math.prod(shape[1:])))
        weights[str(key)] = torch.from_numpy(np.asarray(value))
    return weights


@pytest.fixture(scope="module")
def small() -> RTDETRDetectionModel:
    return RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml").eval()


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["r18", "r50", *(pytest.param(name, marks=pytest.mark.slow) for name in ("r34", "r101"))]
)
def test_official_model_and_ours_compute_the_same(name, tmp_path, monkeypatch):
    # The official code numbers the positions of a map column by column; on maps that are not square this differs.
    by_row = AIFI.build_2d_sincos_position_embedding
    by_column = staticmethod(lambda w, h, *args, **kwargs: by_row(h, w, *args, **kwargs))
    monkeypatch.setattr(AIFI, "build_2d_sincos_position_embedding", by_column)
    file = tmp_path / f"rtdetr_{name}vd.pth"
    torch.save({"epoch": 71, "model": {}, "ema": {"module": official_weights(name), "updates": 9}}, file)
    ours = RTDETRDetectionModel(f"rtdetr-{name}.yaml").eval()
    report = load_weights(ours, file)
    assert not report.left and not report.missing and not report.resized
    boxes_and_scores = ours(torch.from_numpy(image(0, 96, 64)))[0]
    y = boxes_and_scores[..., [0, 1, 2, 3, *(4 + c for c in (0, 1, 16, 39, 63, 79))]]
    # Match queries: those with nearly equal scores may swap places.
    difference = compare(torch.from_numpy(OFFICIAL[f"{name}_output"]), y, "float32")
    assert difference.boxes < 1e-4 and difference.scores < 1e-4 and not difference.swapped


def test_official_model_has_coco_classes(tmp_path, caplog):
    official = official_weights("r18")
    torch.save({"model": official}, tmp_path / "r18.pth")
    model = RTDETRDetectionModel("rtdetr-r18.yaml", nc=3)
    report = load_weights(model, tmp_path / "r18.pth", names={0: "dog", 1: "helmet", 2: "Person"})
    score = model.state_dict()["model.26.enc_score_head.bias"]
    assert score[[2, 0]].equal(official["decoder.enc_score_head.bias"][[0, 16]])
    assert score[1] == pytest.approx(-4.595, abs=1e-3)
    assert report.resized["model.26.denoising_class_embed.weight"] == "2 of 3 classes by name"
    assert "are taken for those of COCO" in caplog.text


def test_official_model_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bias = (official := official_weights("r18"))["decoder.enc_score_head.bias"]
    torch.save({"ema": {"module": official}}, "rtdetr_r18vd_dec3_6x_coco_from_paddle.pth")
    model = RTDETR("rtdetr_r18vd", verbose=False)  # fetched if the file is missing
    assert model.names[0] == "person" and model.model.yaml["yaml_file"] == "rtdetr-r18.yaml"
    assert model.model.model[-1].enc_score_head.bias.equal(bias)


def test_official_encoder_fits_another_backbone(caplog):
    other = RTDETRDetectionModel("rtdetr-resnet50.yaml")
    report = load_weights(other, complete_official(Weights(official_weights("r50"), "r50.pth")))
    assert report.left["backbone.conv1.conv1_1.conv.weight"] == "no such name in the model"
    head = [name for name in other.state_dict() if int(name.split(".")[1]) > 4]
    assert "of the model loaded, the others unchanged" in caplog.text
    assert set(head) <= {*report.matched, *report.resized}


@torch.no_grad()
def test_matched_epsilon_keeps_the_output():
    source, target = nn.BatchNorm2d(4), nn.BatchNorm2d(4, eps=1e-3)
    source.running_var.copy_(torch.tensor([1e-7, 1e-4, 1.0, 50.0]))
    tensors = {f"0.{k}": v for k, v in source.state_dict().items()}
    assert "1 normalization" in match_epsilon(nn.Sequential(target), tensors, 1e-5)[0]
    target.load_state_dict({name.removeprefix("0."): value for name, value in tensors.items()})
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(target.eval()(x), source.eval()(x), rtol=1e-4, atol=1e-5)


def classifier(name: str) -> nn.Module:
    net = torchvision.models.get_model(name) if hasattr(torchvision.models, name) else timm.create_model(name)
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.02, 1.0)
            nn.init.uniform_(module.weight, 0.2, 0.6)
    return net.eval()


def stages(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = net.maxpool((net.relu if hasattr(net, "relu") else net.act1)(net.bn1(net.conv1(x))))
    maps = []
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = stage(x)
        maps.append(x)
    return maps


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "model_file", "rows", "prefix"),
    [
        ("resnet50", "rtdetr-resnet50", (1, 2, 3, 4), "backbone.0.body."),
        ("resnet18d", "rtdetr-r18", (4, 5, 6, 7), "module.encoder."),
        ("resnet50d", "rtdetr-r50", (4, 5, 6, 7), ""),
    ],
)
def test_backbone_computes_the_features_of_its_classifier(name, model_file, rows, prefix, tmp_path):
    net = classifier(name)
    torch.save({"state_dict": {prefix + k: v for k, v in net.state_dict().items()}}, tmp_path / "net.pth")
    config = yaml.safe_load((MODELS_DIR / "rt-detr" / f"{model_file}.yaml").read_text())
    config["activation"] = "nn.ReLU()"  # the classifier's, where the published model file has SiLU
    model = RTDETRDetectionModel(config).eval()
    report = load_backbone(model, tmp_path / "net.pth")
    assert not report.missing
    assert [kept.rpartition("fc.")[2] for kept in report.left] == ["weight", "bias"]  # the classifier's last layer
    assert str(tmp_path / "net.pth") == model.model[rows[0]].pretrained
    x, maps = torch.rand(1, 3, 96, 64), {}
    model._run_layers(x, None, lambda layer, output: maps.update({layer.i: output}))
    for row, expected in zip(rows, stages(net, x), strict=True):
        assert (maps[row] - expected).abs().max() < 1e-4 * expected.abs().max()


def test_timm_efficientvit_loads(small, caplog):
    source = {f"model.{k}": v for k, v in timm.create_model("efficientvit_m0").state_dict().items()}
    report = load_backbone(small, Weights(source, "m0.pth"))
    assert not report.missing and {name.split(".")[1] for name in report.left} == {"head"}
    assert "names in the file start with 'model.', names in the model with 'model.0.'" in caplog.text
    assert {how.split()[0] for how in report.resized.values()} == {"kernel", "window"}
    stem = small.state_dict()["model.0.patch_embed.0.c.weight"]
    assert torch.equal(stem, source["model.patch_embed.conv1.conv.weight"])


@pytest.mark.parametrize("head", [True, False], ids=["classifier", "detector"])
def test_epsilon_of_msra_classifier_is_inferred_from_its_head(small, head):
    state = {n.removeprefix("model.0."): v.clone() for n, v in small.state_dict().items() if n.startswith("model.0.")}
    source = {**state, **({"head.l.weight": torch.ones(10, 192)} if head else {})}
    load_backbone(small, Weights({"model." + name: value for name, value in source.items()}, "m0.pth"))
    moved = small.state_dict()["model.0.patch_embed.0.bn.running_var"] - state["patch_embed.0.bn.running_var"]
    assert moved.allclose(torch.full_like(moved, 1e-5 - 1e-3 if head else 0.0), atol=1e-7)


@pytest.mark.parametrize("name", ["convnext_atto", "resnet18", "efficientvit_m0"])
def test_timm_backbone_loads_flattened_names(name):
    head = [[-1, 1, "Conv", [32, 1, 1]], [[-1], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 2, 1]]]
    model = RTDETRDetectionModel({"nc": 2, "backbone": [[-1, 1, "TimmBackbone", [name]]], "head": head})
    source = timm.create_model(name).state_dict()
    report = load_backbone(model, Weights({f"module.{k}": v for k, v in source.items()}, "net.pth"))
    assert not report.missing and all(n.endswith("attention_biases") for n in report.resized)  # by window
    assert {kept.split(".")[1] for kept in report.left} <= {"head", "fc"}


def test_other_classifiers_are_refused(small):
    with pytest.raises(WeightsError, match=r"net.pth: none of its tensors fits RTDETRDetectionModel.*'fc.weight'"):
        load_backbone(small, Weights({"fc.weight": torch.ones(3, 3)}, "net.pth"))
    with pytest.raises(WeightsError, match=r"none of its tensors fits.*use backbone_weights="):
        load_weights(small, Weights({"fc.weight": torch.ones(3, 3)}, "net.pth"))


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."], ids=["the layers alone", "ours", "wrapped"])
def test_prefixes_are_ignored(small, prefix):
    source = {prefix + n.removeprefix("model."): v + 1 for n, v in small.state_dict().items()}
    report = load_weights(small, Weights(source, "w.pt"))
    assert not report.left and not report.missing
