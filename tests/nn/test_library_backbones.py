"""Backbones of timm and torchvision: the stated channels and strides are those of the maps."""

import copy

import pytest
import torch

from ultralytics.nn.modules import TimmBackbone, TorchVisionBackbone
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ModelConfigError, UserError, WeightsError

timm = pytest.importorskip("timm")

TIMM = {
    "resnet18.a1_in1k": ((64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
    "mobilenetv3_small_050": ((16, 8, 16, 24, 288), (2, 4, 8, 16, 32)),
    "mambaout_femto": ((48, 96, 192, 288), (4, 8, 16, 32)),  # (B, H, W, C) inside
    "swin_tiny_patch4_window7_224": ((96, 192, 384, 768), (4, 8, 16, 32)),  # the same, and made for 224 pixels
    "vit_tiny_patch16_224": ((192, 192, 192), (16, 16, 16)),
    "vgg11": ((128, 256, 512, 512, 512), (2, 4, 8, 16, 32)),  # six features, the last five are taken
}
TORCHVISION = {
    "resnet18": ((64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
    "mobilenet_v3_small": ((16, 16, 24, 48, 576), (2, 4, 8, 16, 32)),
    "swin_t": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "densenet121": ((64, 256, 512, 1024, 1024), (2, 4, 8, 16, 32)),
}
CASES = [(TimmBackbone, *case) for case in TIMM.items()]
CASES += [(TorchVisionBackbone, *case) for case in TORCHVISION.items()]


@pytest.mark.parametrize(("kind", "name", "stated"), CASES, ids=[f"{k.__name__}-{n}" for k, n, _ in CASES])
def test_maps_are_as_stated(kind, name, stated):
    model = kind(name).eval()
    assert tuple(model.width_list) == stated[0]
    for height, width in ((64, 64), (96, 96), (64, 160)):
        with torch.no_grad():
            maps = model(torch.rand(1, 3, height, width))
        expected = [(1, c, -(-height // s), -(-width // s)) for c, s in zip(*stated, strict=True)]
        assert [tuple(m.shape) for m in maps] == expected


def test_a_network_of_one_size_refuses_others():
    model = TimmBackbone("cait_xxs24_224", img_size=(64, 64)).eval()
    with torch.no_grad():
        assert [tuple(m.shape[1:]) for m in model(torch.rand(1, 3, 64, 64))] == [(192, 4, 4)] * 3
    with pytest.raises(UserError, match=r"cait_xxs24_224 does not accept images of \(96, 96\)"):
        model(torch.rand(1, 3, 96, 96))


def test_out_indices_and_nodes_choose_maps():
    model = TimmBackbone("resnet18", out_indices=[2, 3, 4])
    assert model.width_list == [128, 256, 512]
    assert TimmBackbone("vit_tiny_patch16_224", out_indices=[2, 5]).width_list == [192, 192]
    for nodes in (["layer2", "layer4"], [2, 4]):
        model = TorchVisionBackbone("resnet18", nodes=nodes)
        assert model.width_list == [128, 512]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (TimmBackbone, ["resnet18x"], "no network 'resnet18x'; did you mean 'resnet18'"),
        (TimmBackbone, ["resnet18.a1_in2k"], "tag"),
        (TimmBackbone, ["resnet18", False, [0, 9]], r"out_indices=\(0, 9\)"),
        (TimmBackbone, ["resnet18", False, None, 6], "frozen_stages must be 0 to 5"),
        (TorchVisionBackbone, ["resnet18x"], "no classifier 'resnet18x'; did you mean 'resnet18'"),
        (TorchVisionBackbone, ["resnet18", True], "resnet18: no weights True; known: .* or a file"),
        (TorchVisionBackbone, ["resnet18", "IMAGENET1K_V9"], "no weights 'IMAGENET1K_V9'"),
        (TorchVisionBackbone, ["resnet18", None, ["layer9"]], "no module 'layer9' outputs a map; did you mean 'layer"),
        (TorchVisionBackbone, ["resnet18", None, None, -1], "frozen_stages must be 0 to 5"),
    ],
)
def test_wrong_arguments(kind, arguments, message):
    with pytest.raises(ModelConfigError, match=message):
        kind(*arguments)


@pytest.mark.parametrize(("kind", "name"), [(TimmBackbone, "resnet18"), (TorchVisionBackbone, "resnet18")])
def test_frozen_stages_do_not_learn(kind, name):
    model = kind(name, frozen_stages=2).train()
    names = {"conv1", "bn1", "layer1"}
    for path, parameter in model.net.named_parameters():
        assert parameter.requires_grad == (path.split(".")[0] not in names), path
    before = copy.deepcopy(model.net.state_dict())
    sum(m.mean() for m in model(torch.rand(2, 3, 64, 64))).backward()
    moved = {key.split(".")[0] for key, value in model.net.state_dict().items() if not value.equal(before[key])}
    assert moved == {"layer2", "layer3", "layer4"}
    twin = copy.deepcopy(model).train()
    assert not twin.net.get_submodule("layer1.0.bn1").training and twin.net.get_submodule("layer2.0.bn1").training
    assert not any(p.requires_grad for p in kind(name, frozen_stages=5).parameters())


@pytest.mark.parametrize(
    ("kind", "name"),
    [(TimmBackbone, n) for n in ("resnet18", "mambaout_femto", "vit_tiny_patch16_224", "mobilenetv3_small_050")]
    + [(TorchVisionBackbone, "mobilenet_v3_small")],
)
def test_gradients_reach_every_parameter(kind, name):
    model = kind(name).train()
    sum(m.mean() for m in model(torch.rand(2, 3, 64, 64))).backward()
    assert [path for path, p in model.named_parameters() if p.grad is None] == []


def test_weights_of_a_file(tmp_path):
    file = tmp_path / "swin.pth"
    source = timm.create_model("swin_tiny_patch4_window7_224")
    torch.save(source.state_dict(), file)
    model = TimmBackbone("swin_tiny_patch4_window7_224", pretrained=str(file))
    assert model.net.state_dict()["layers_0.blocks.0.mlp.fc1.weight"].equal(source.layers[0].blocks[0].mlp.fc1.weight)
    other = tmp_path / "resnet.pth"
    torch.save(timm.create_model("resnet18").state_dict(), other)
    assert TorchVisionBackbone("resnet18", str(other)).net.conv1.weight.equal(torch.load(other)["conv1.weight"])
    with pytest.raises(WeightsError, match="none of its"):
        TimmBackbone("swin_tiny_patch4_window7_224", pretrained=str(other))
    with pytest.raises(WeightsError, match="none of its"):
        TorchVisionBackbone("resnet18", str(file))


def test_without_a_connection_the_error_names_the_file(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("os.path.exists", lambda _: False)
    message = (
        r"resnet18: its weights cannot be .*no connection.*; fetch https://\S+ and save it as /.*/resnet18-\w+.pth"
    )
    with pytest.raises(WeightsError, match=message):
        TorchVisionBackbone("resnet18", "DEFAULT")


@pytest.mark.parametrize("file", ["rtdetr-timm.yaml", "rtdetr-torchvision.yaml"])
def test_a_detector_runs(file):
    model = RTDETRDetectionModel(file, nc=3).eval()
    assert model.model[-1].nl == 3
    for size in ((64, 64), (96, 160)):
        with torch.no_grad():
            boxes = model(torch.rand(1, 3, *size))[0]
        assert boxes.shape[-1] == 4 + 3 and boxes.isfinite().all()


def test_a_checkpoint_does_not_need_the_weights_its_row_names(tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "w.pth")
    row = [-1, 1, "TimmBackbone", ["resnet10t", str(tmp_path / "w.pth")]]
    config = {"nc": 2, "backbone": [row], "head": [[[3], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 1]]]}
    model = RTDETRDetectionModel(config)
    assert model.model[0].pretrained
    (tmp_path / "w.pth").unlink()
    again = RTDETRDetectionModel(model.yaml)
    again.load_state_dict(model.state_dict())
    assert not again.model[0].pretrained and again.yaml["backbone"] == [row]
