"""backbone_weights=imagenet: the loaders of timm and torchvision, with their caches, without a network."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from ultralytics.nn.Addmodules.EfficientViT import EfficientViT_M0
from ultralytics.nn.modules.library_backbones import TimmBackbone, TorchVisionBackbone
from ultralytics.nn.tasks import DetectionModel
from ultralytics.nn.weights import imagenet, load_backbone
from ultralytics.utils.errors import WeightsError
from ultralytics.utils.settings import SETTINGS

HEAD = "\nhead: [[[1], 1, Detect, [nc]]]\nnc: 2"


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Use empty caches in a temporary folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setitem(SETTINGS._changed, "weights_dir", str(tmp_path / "weights"))


def classifier(name):
    """Return a classifier of timm whose tensors differ from those of any new one."""
    torch.manual_seed(0)
    return timm.create_model(name)


def cached(folder, repository, net):
    """Store weights as the cache of the hub has them."""
    cache = folder / "hub" / f"models--timm--{repository}"
    for part in ("refs", "snapshots/0123"):
        (cache / part).mkdir(parents=True)
    (cache / "refs" / "main").write_text("0123")
    save_file(net.state_dict(), cache / "snapshots" / "0123" / "model.safetensors")


def model_of(row, tmp_path):
    (tmp_path / "net.yaml").write_text(f"backbone: [[-1, 1, {row}]]{HEAD}")
    return DetectionModel(tmp_path / "net.yaml")


def test_timm_s_cache(tmp_path):
    net = classifier("efficientvit_m0")
    cached(tmp_path, "efficientvit_m0.r224_in1k", net)
    model = model_of("EfficientViT_M0, []", tmp_path)
    report = load_backbone(model, "imagenet")
    assert not report.missing and "EfficientViT (MSRA), timm's names" in report.notes
    expected = net.patch_embed.conv1.conv.weight
    assert model.model[0].patch_embed[0].c.weight.equal(expected) and model.model[0].pretrained
    assert EfficientViT_M0("imagenet").patch_embed[0].c.weight.equal(expected)  # as the argument of a row


def test_a_network_of_timm(tmp_path):
    net = classifier("resnet18")
    cached(tmp_path, "resnet18.a1_in1k", net)
    assert TimmBackbone("resnet18.a1_in1k", "imagenet").net.conv1.weight.equal(net.conv1.weight)
    model = model_of("TimmBackbone, [resnet18.a1_in1k]", tmp_path)
    assert not load_backbone(model, "imagenet").missing
    assert model.model[0].net.layer4[1].conv2.weight.equal(net.layer4[1].conv2.weight)


def test_torchvision_s_cache(tmp_path):
    net = classifier("resnet18")  # the names are those of torchvision
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    torch.save(net.state_dict(), tmp_path / "torch" / "checkpoints" / "resnet18-f37072fd.pth")
    assert TorchVisionBackbone("resnet18", "imagenet").net.conv1.weight.equal(net.conv1.weight)
    model = model_of("TorchVisionBackbone, [resnet18]", tmp_path)
    assert not load_backbone(model, "imagenet").missing
    assert model.model[0].net.conv1.weight.equal(net.conv1.weight)


def test_a_file_saved_by_hand(tmp_path):
    address = r"https://huggingface.co/timm/efficientvit_m0.r224_in1k/resolve/main/model.safetensors"
    file = tmp_path / "weights" / "efficientvit_m0.r224_in1k.safetensors"
    with pytest.raises(WeightsError, match=f"efficientvit_m0: .* fetch {address} and save it as {file}$"):
        EfficientViT_M0("imagenet")
    file.parent.mkdir()
    net = classifier("efficientvit_m0")
    save_file(net.state_dict(), file)
    assert EfficientViT_M0("imagenet").patch_embed[0].c.weight.equal(net.patch_embed.conv1.conv.weight)


@pytest.mark.parametrize(
    ("file", "name"), [("rtdetr-r18", "resnet18d"), ("rtdetr-r50", "resnet50d"), ("rtdetr-resnet50", "resnet50")]
)
def test_resnets_of_rows(file, name, monkeypatch):
    monkeypatch.setattr(imagenet, "timm_weights", str.upper)
    with torch.device("meta"):
        assert imagenet.imagenet_weights(DetectionModel(f"{file}.yaml")) == name.upper()


def test_other_backbones(tmp_path):
    with pytest.raises(WeightsError, match="no published ImageNet weights are known for a backbone of Conv;"):
        load_backbone(model_of("Conv, [8, 3, 2]], [-1, 1, Conv, [8, 3, 2]", tmp_path), "imagenet")
    with pytest.raises(WeightsError, match="efficientnetv2_m: timm has no pretrained weights"):
        imagenet.timm_weights("efficientnetv2_m")
