"""Build models from rows: layer numbers, scales, settings; errors are in test_parser_errors.py."""

import pytest
import torch
import yaml
from torch import nn

from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.nn.modules import Conv, RepC3
from ultralytics.nn.parser import build_module
from ultralytics.nn.tasks import parse_model

M0 = yaml.safe_load((MODELS_DIR / "rt-detr" / "rtdetr-efficientvit-m0.yaml").read_text())


def small(*rows, nc: int = 3, **keys) -> dict:
    """A model file with three backbone rows at strides 2, 4, 8, then `rows`, then a decoder on layer 2."""
    backbone = [[-1, 1, "Conv", [16, 3, 2]] for _ in range(3)]
    return {"nc": nc, "backbone": backbone, "head": [*rows, [[2], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 1]]], **keys}


def test_a_backbone_takes_five_numbers_aligned_to_the_right():
    layers, save = parse_model(M0)
    assert (layers[0].i, layers[1].i) == (4, 5)
    assert {2, 3} <= set(save)


def test_scales_change_width_depth_and_cap():
    scales = {"s": [0.34, 0.5, 24], "l": [1.0, 1.0, 1024]}
    layers, _ = parse_model(small([-1, 3, "RepC3", [64]], scales=scales, scale="s"))
    assert layers[0].conv.out_channels == 8
    assert isinstance(layers[3], RepC3) and len(layers[3].m) == 1
    assert layers[3].cv1.conv.out_channels == 16  # min(64, 24) * 0.5, up to a multiple of 8


def test_activation_of_a_file_holds_for_that_file_only():
    layers, _ = parse_model(small(activation="nn.LeakyReLU(0.2)"))
    assert layers[0].act.negative_slope == 0.2
    assert isinstance(Conv(3, 8).act, nn.SiLU)


def test_layers_of_torch_get_their_channels_by_a_run_on_meta():
    layers, _ = parse_model(small([-1, 1, "nn.Conv2d", [16, 40, 3, 1, 1]], [-1, 1, "Conv", [8]]))
    assert layers[4].conv.in_channels == 40


@pytest.mark.parametrize(
    ("args", "channels", "shape"),
    [
        ((16,), 64, (64, 9, 7)),
        ((16, 1, False), 24, (64, 9, 7)),
        ((16, 2, False, "silu"), 24, (64, 5, 4)),  # an odd side is rounded up, as the pooling of the shortcut does
    ],
    ids=["plain", "projected", "halved"],
)
def test_rows_of_the_bottleneck_of_resnet_vd(args, channels, shape):
    block = build_module("BottleNeck", args, [(channels, 9, 7)])
    x = torch.rand(2, channels, 9, 7)
    assert block(x).shape[1:] == shape and block.outputs == [shape]
    block(x).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
