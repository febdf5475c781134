"""The EfficientViT backbone: channels, sizes, freezing, weights; `test_module_check.py` has the rest."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.golden.fill import value
from tests.golden.inputs import image
from ultralytics.cfg.model_yaml import find_model_yaml
from ultralytics.nn.Addmodules import EfficientViT as source
from ultralytics.nn.tasks import DetectionModel

GOLDEN = Path(__file__).parents[1] / "golden"


def backbone(name: str = "EfficientViT_M0", **kwargs) -> source.EfficientViT:
    """A backbone whose zero-initialised branches have been filled, so that every part changes the output."""
    model = getattr(source, name)(**kwargs)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            filled = value(key, tuple(tensor.shape), 1.2) if tensor.is_floating_point() else None
            if filled is not None:
                tensor.copy_(torch.from_numpy(filled))
    return model.eval()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", [(32, 32), (32, 96), (64, 224), (100, 70), (224, 224), (250, 131)], ids=str)
def test_any_size_runs(size, training):
    maps = backbone().train(training)(torch.rand(2, 3, *size))
    halved = size
    for _ in range(3):
        halved = tuple(-(-side // 2) for side in halved)
    assert maps[0].shape[2:] == halved
    assert all(m.isfinite().all() for m in maps)


@torch.no_grad()
def test_a_map_smaller_than_a_window_is_attended_as_one_padded_window():
    attention = backbone().blocks3[3].mixer.m
    x = torch.rand(1, 192, 3, 5)
    padded = torch.nn.functional.pad(x, (0, 2, 0, 4))
    assert torch.equal(attention(x), attention.attn(padded)[:, :, :3, :5])


def test_frozen_stages_keep_weights_and_statistics():
    model = backbone(frozen_stages=2).train()
    before = copy.deepcopy(model.state_dict())
    model(torch.rand(2, 3, 64, 64))[-1].sum().backward()
    frozen = ("patch_embed.", "blocks1.")
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name
    moved = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert moved and not any(name.startswith(frozen) for name in moved)


def timm_weights(name: str) -> dict[str, torch.Tensor]:
    """A classifier's state_dict under timm's names, filled by the rule of the reference."""
    shapes = json.loads((GOLDEN / "timm_efficientvit_keys.json").read_text())[name]
    tensors = {}
    for key, shape in shapes:
        if "idxs" in key or "num_batches" in key:
            continue
        # The rule's factors go by the names of timm's model, as the reference was made with them.
        tensors[key] = torch.from_numpy(np.asarray(value(key, tuple(shape), 1.2)))
    return tensors


@torch.no_grad()
def test_timm_weights_give_timm_features(tmp_path):
    file = tmp_path / "m3.pth"
    torch.save({"state_dict": timm_weights("efficientvit_m3")}, file)
    model = source.EfficientViT_M3(pretrained=str(file)).eval()
    model.patch_embed[6].c.stride = (2, 2)  # the classifier's
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5
    maps = model(torch.from_numpy(image(2703, 224, 224)))
    expected = np.load(GOLDEN / "timm_efficientvit_m3.npz")
    for ours, name in ((maps[1], "stage1"), (maps[2], "stage2")):
        assert np.abs(ours[:, ::4].numpy() - expected[name]).max() <= 1e-4 * np.abs(expected[name]).max()


@torch.no_grad()
def test_weights_named_in_a_row_compute_the_same_within_a_detector(tmp_path):
    file = tmp_path / "m0.pth"
    torch.save({"state_dict": timm_weights("efficientvit_m0")}, file)
    content = yaml.safe_load(find_model_yaml("rtdetr-efficientvit-m0.yaml")[0].read_text())
    content["backbone"][0][3] = [str(file)]
    detector = DetectionModel({**content, "nc": 2}).eval()
    alone = source.EfficientViT_M0(pretrained=str(file)).eval()  # with the classifier's epsilon
    inputs = torch.from_numpy(image(2703, 64, 64))
    for ours, expected in zip(detector.model[0](inputs), alone(inputs), strict=True):
        assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()
