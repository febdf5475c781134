"""Building models from rows: slots, scales, settings, and what a wrong row is told."""

import pytest
import torch
import yaml
from torch import nn

from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.nn.modules import Conv, RepC3
from ultralytics.nn.tasks import RTDETRDetectionModel, parse_model
from ultralytics.utils.errors import ModelConfigError

M0 = yaml.safe_load((MODELS_DIR / "rt-detr" / "rtdetr-efficientvit-m0.yaml").read_text())
SIZES = {  # millions of parameters and GFLOPs at 640, nc=80
    "efficientvit-m0": (11.009, 30.02), "efficientvit-m1": (11.661, 34.88), "efficientvit-m2": (12.856, 37.06),
    "efficientvit-m3": (15.510, 40.77), "efficientvit-m4": (17.370, 42.85), "efficientvit-m5": (21.065, 55.61),
    "l": (32.970, 110.24), "resnet50": (42.925, 132.72), "r18": (20.184, 59.77), "r34": (31.441, 91.97),
}  # fmt: skip


def small(*rows, nc: int = 3, **keys) -> dict:
    """A model file with three backbone rows at strides 2, 4, 8, then `rows`, then a decoder on layer 2."""
    backbone = [[-1, 1, "Conv", [16, 3, 2]] for _ in range(3)]
    return {"nc": nc, "backbone": backbone, "head": [*rows, [[2], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 1]]], **keys}


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
    info = RTDETRDetectionModel(f"rtdetr-{name}.yaml").info(verbose=False)
    assert (round(info.parameters / 1e6, 3), round(info.gflops, 2)) == pytest.approx(SIZES[name], abs=6e-3)


@pytest.mark.parametrize("name", ["x", "resnet101"])
def test_the_other_files_build(name):
    model = RTDETRDetectionModel(f"rtdetr-{name}.yaml", nc=5)
    assert model.nc == 5 and model.layer_shapes[-1][0] == (1, 300, 9)


def test_a_backbone_takes_five_numbers_aligned_to_the_right():
    layers, save = parse_model(M0)
    assert (layers[0].i, layers[1].i) == (4, 5)
    assert {2, 3} <= set(save)


def test_an_empty_slot_cannot_be_read():
    broken = {**M0, "head": [[0, 1, "Conv", [256]], *M0["head"]]}
    with pytest.raises(ModelConfigError, match=r"reads from 0, an empty slot .* \[1, 2, 3, 4\]"):
        RTDETRDetectionModel(broken)


def test_scales_change_width_depth_and_cap():
    scales = {"s": [0.34, 0.5, 24], "l": [1.0, 1.0, 1024]}
    config = small([-1, 3, "RepC3", [64]], scales=scales, scale="s")
    layers, _ = parse_model(config)
    assert layers[0].conv.out_channels == 8
    assert isinstance(layers[3], RepC3) and len(layers[3].m) == 1
    assert layers[3].cv1.conv.out_channels == 16  # min(64, 24) * 0.5, up to a multiple of 8


def test_activation_of_a_file_holds_for_that_file_only():
    layers, _ = parse_model(small(activation="nn.LeakyReLU(0.2)"))
    assert layers[0].act.negative_slope == 0.2
    assert isinstance(Conv(3, 8).act, nn.SiLU)


def test_settings_reach_the_decoder_and_the_yaml():
    model = RTDETRDetectionModel(small(), overrides={"num_queries": 7, "num_denoising": None})
    assert model.model[-1].num_queries == 7 and model.model[-1].num_denoising == 2
    assert RTDETRDetectionModel(model.yaml).model[-1].num_queries == 7


def test_layers_of_torch_get_their_channels_by_a_run_on_meta():
    layers, _ = parse_model(small([-1, 1, "nn.Conv2d", [16, 40, 3, 1, 1]], [-1, 1, "Conv", [8]]))
    assert layers[4].conv.in_channels == 40


def test_fewer_positions_than_queries_give_fewer_queries():
    y, _ = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=2).eval()(torch.rand(1, 3, 32, 64))
    assert y.shape == (1, 4 * 8 + 2 * 4 + 1 * 2, 6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[-1, 1, "Cnv", [64]]], "row 0: no module 'Cnv'; did you mean 'Conv'"),
        ([[-1, 1, "nn.Upsampl", [None, 2]]], "torch.nn has no layer 'nn.Upsampl'; did you mean 'Upsample'"),
        ([[9, 1, "Conv", [64]]], "layer 3 Conv reads from 9, but only 0 to 2 exist"),
        ([[-1, 1, "Conv", []]], r"layer 3 Conv: its arguments are \(c2, \.\.\.\), got \[\].*missing"),
        ([[-1, 1, "AIFI", [64, 8, 0, None, False, 9, 9]]], r"layer 3 AIFI: its constructor takes .*too many"),
        ([[-1, 1, "AIFI", [64, 7]]], "layer 3 AIFI: num_heads=7: channels must be a multiple of 7, got 16"),
        ([[[0, 1], 1, "Concat", [1]]], r"layer 3 Concat fails on inputs .*\(1, 16, 320, 320\).*\(1, 16, 160, 160\)"),
        ([[-1, 0, "Conv", [64]]], "repeats must be a whole number from 1, got 0"),
        ([["x", 1, "Conv", [64]]], "layer 3 Conv reads 'x', which is no row's name"),
        ([[-1, 1, "Conv", 64]], "fourth column is the list of Conv's arguments, got 64"),
        ([[-1, 1, "Conv"]], r"a row is \[from, repeats, module, args\]"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_told_what_is_wrong(rows, message):
    with pytest.raises(ModelConfigError, match=message):
        RTDETRDetectionModel(small(*rows))


def test_the_last_layer_must_be_the_decoder():
    config = small()
    config["head"] = [[-1, 1, "Conv", [8]]]
    with pytest.raises(ModelConfigError, match=r"last layer of an RT-DETR is RTDETRDecoder, got .*Conv"):
        RTDETRDetectionModel(config)


def test_errors_of_a_file_keep_their_line_when_settings_are_given(tmp_path):
    file = tmp_path / "net.yaml"
    file.write_text(yaml.safe_dump(small([-1, 1, "Cnv", [64]]), default_flow_style=None))
    with pytest.raises(ModelConfigError, match=r"^net\.yaml:\d+: no module 'Cnv'"):
        RTDETRDetectionModel(file, overrides={"num_queries": 5})


def test_channels_of_the_images_are_the_files():
    model = RTDETRDetectionModel(small(ch=1))
    assert model.model[0].conv.in_channels == 1 and model.yaml["ch"] == 1
