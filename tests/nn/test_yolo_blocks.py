"""YOLO blocks against the published package: names, shapes and values; gradients; folding; rows."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden.yolo_blocks import CASES, build, case_input, joined, keys_crc, samples
from ultralytics.nn import modules
from ultralytics.nn.accelerate.conv_bn import fuse_layer
from ultralytics.nn.modules import block, conv
from ultralytics.nn.parser import build_module
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.torch_utils import fuse_conv_and_bn, fuse_deconv_and_bn

RECORDED = np.load(Path(__file__).parents[1] / "golden" / "yolo_blocks.npz")
IDS = [f"{i}-{name}" for i, (name, _, _) in enumerate(CASES)]


@pytest.mark.parametrize("i", range(len(CASES)), ids=IDS)
def test_names_shapes_and_values_are_those_of_the_published_block(i):
    module = build(*CASES[i][:2])
    assert keys_crc(module) == RECORDED["keys"][i]
    with torch.no_grad():
        output = joined(module(case_input(i)))
    assert [*output.shape, 0][:4] == RECORDED["shapes"][i].tolist()
    expected = RECORDED["values"][i]
    assert np.abs(samples(output) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("i", [i for i, case in enumerate(CASES) if case[0] != "DFL"])  # DFL is fixed
def test_gradient_reaches_every_parameter(i):
    module = build(*CASES[i][:2]).train()
    output = joined(module(case_input(i)))
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.03), (torch.bfloat16, 0.15)])
@torch.no_grad()
def test_half_precision_gives_nearly_the_same(dtype, tolerance):
    for i, case in enumerate(CASES):
        module, x = build(*case[:2]), case_input(i)
        expected = joined(module(x))
        got = joined(module.to(dtype)(x.to(dtype)))
        assert got.dtype == dtype
        assert (got.float() - expected).abs().max() <= tolerance * expected.abs().max(), case


@pytest.mark.parametrize("i", range(len(CASES)), ids=IDS)
@torch.no_grad()
def test_folding_keeps_the_output_and_leaves_no_normalisation(i):
    module, x = build(*CASES[i][:2]).double(), case_input(i).double()
    folded = copy.deepcopy(module)
    fuse_layer(folded, (case_input(i).double(),))
    left = sum(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert left == (CASES[i][0] in ("BottleneckCSP", "Conv2"))  # one over both of its branches
    expected = joined(module(x))
    torch.testing.assert_close(joined(folded(x)), expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "args", "parameters"),  # of a row with repeats 2 on 64 channels, as the published parser builds it
    [
        ("GhostConv", [16, 3], 4840), ("C1", [16], 5728), ("C2", [16], 3712), ("C2f", [16], 3968),
        ("C3", [16], 2688), ("C3x", [16], 2176), ("C3TR", [32], 8208), ("C3Ghost", [16], 1756),
        ("BottleneckCSP", [16], 3792), ("C3k2", [16], 2800), ("C2PSA", [64], 24256), ("C2fPSA", [64], 28352),
        ("C2fCIB", [16], 2912), ("SCDown", [16, 3, 2], 1232), ("SPPF", [16], 4192), ("ADown", [16], 2592),
    ],
)  # fmt: skip
def test_rows_build_what_the_published_parser_builds(name, args, parameters):
    copies = name in ("GhostConv", "SCDown", "SPPF", "ADown")
    assert build_module(name, args, inputs=((64, 32, 32),), repeats=1 if copies else 2).np == parameters


@torch.no_grad()
def test_named_helpers_fold_a_convolution_of_a_fork():
    for layer, fuse in (
        (torch.nn.Conv2d(4, 6, 3, groups=2), fuse_conv_and_bn),
        (torch.nn.ConvTranspose2d(4, 6, 2, 2, bias=False), fuse_deconv_and_bn),
    ):
        bn = torch.nn.BatchNorm2d(6).eval()
        bn.running_mean.uniform_()
        bn.running_var.uniform_(0.5, 2)
        x = torch.rand(2, 4, 8, 8)
        expected = bn(layer(x))
        torch.testing.assert_close(fuse(layer, bn)(x), expected)


def test_padding_is_that_of_the_published_package():
    from_checkpoint = {  # autopad(k, None, d) of ultralytics 8.4.190 for d = 1, 2, 3
        1: (0, 0, 0), 2: (1, 1, 2), 3: (1, 2, 3), 4: (2, 3, 5), 5: (2, 4, 6), 6: (3, 5, 8),
    }  # fmt: skip
    assert {k: tuple(conv.autopad(k, None, d) for d in (1, 2, 3)) for k in from_checkpoint} == from_checkpoint
    assert conv.autopad((2, 4)) == [1, 2] and conv.autopad(6, 2) == 2


def test_the_activation_of_a_model_file_is_that_of_conv_alone(monkeypatch):
    monkeypatch.setattr(conv.Conv, "default_act", torch.nn.ReLU())
    kinds = [type(layer(4, 4).act).__name__ for layer in (conv.Conv, conv.Conv2, conv.RepConv, conv.ConvTranspose)]
    assert kinds == ["ReLU", "ReLU", "SiLU", "SiLU"]  # as the published package builds them


@pytest.mark.parametrize(
    ("name", "args", "size"),
    [
        ("RepConv", (6, 6, 3, 1, 2, 1, 2, True, True), 11),
        ("RepConv", (6, 4, 5, 1, 2, 2), 11),
        ("RepConv", (6, 6, 3, 1, 2, 1, 1, True, True), 13),  # the identity branch has no place: the map grows
        ("RepConv", (6, 4, 3, 2, 1), 6),
        ("Conv2", (6, 4, 3, 1, 1), 11),
        ("Conv2", (6, 4, 3, 2, 2, 2, 2), 6),
        ("Conv2", (6, 4, (1, 3)), 11),
    ],
)
@torch.no_grad()
def test_the_branches_of_a_sum_agree_for_any_padding_and_dilation(name, args, size):
    layer = getattr(conv, name)(*args).double().eval()
    for norm in (m for m in layer.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.rand(2, 6, 11, 11, dtype=torch.float64)
    expected = layer(x)
    assert expected.shape == (2, args[1], size, size)
    fuse_layer(layer, (x,))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: conv.Conv(4, 4, act="rleu"), "one of relu, silu, .* got 'rleu'; did you mean 'relu'"),
        (lambda: conv.Conv(4, 4, act=int), "act: expected False, None, a module .* got <class"),
        (lambda: conv.ConvNormLayer(4, 4, 3, 1, act=True), "act: expected False, None, a module .* got True"),
        (lambda: conv.RepConv(4, 4, 2), "RepConv: .* an odd k .* got k=2, p=1, d=1"),
        (lambda: conv.Conv2(4, 4, 3, 1, 0), "Conv2: .* got k=3, p=0, d=1"),
        (lambda: conv.GhostConv(4, 5), "GhostConv: c2 must be a multiple of 2, got 5"),
        (lambda: block.GhostBottleneck(8, 16), "stride 1: c1 and c2 must be equal, got c1=8 and c2=16"),
        (lambda: block.GhostBottleneck(8, 8, 3, 3), "GhostBottleneck: s must be 1 or 2, got 3"),
        (lambda: block.SPP(8, 8, (5, 4)), "SPP: k must be odd .* got 4"),
        (lambda: block.SPPELAN(8, 8, 4, 0), "SPPELAN: k must be a whole number from 1, got 0"),
        (lambda: block.ADown(7, 8), "ADown: c1 must be a multiple of 2, got 7"),
        (lambda: block.Attention(8, 8), "dim / num_heads . attn_ratio must be a whole number from 1, got 0"),
        (lambda: block.A2C2f(64, 48), "A2C2f: c2 . e must be a multiple of 32, got 24"),
        (lambda: block.A2C2f(32, 64, residual=True), "A2C2f with residual: c1 and c2 must be equal"),
        (lambda: block.BasicBlock(8, 8, 2), "BasicBlock: .* shortcut False where stride is 2 .* stride=2, "),
    ],
)
def test_arguments_that_cannot_work_are_refused_by_name(build, message):
    with pytest.raises(ModelConfigError, match=message):
        build()


@pytest.mark.parametrize(("name", "args", "inputs"), [("HGStem", [8, 16], 3), ("ResNetLayer", [3, 16, 1, True], 3)])
def test_rows_that_cannot_be_repeated_say_so(name, args, inputs):
    with pytest.raises(ModelConfigError, match=r"cannot be repeated; write 1 in the second column, got 3"):
        build_module(name, args, inputs=((inputs, 64, 64),), repeats=3)


def test_maps_of_linked_branches_are_not_dropped_in_silence():
    maps = [[torch.rand(1, 4, 8, 8), torch.rand(1, 4, 4, 4)], [torch.rand(1, 4, 2, 2)], torch.rand(1, 4, 4, 4)]
    y = block.CBFuse([1, 0])(maps)
    torch.testing.assert_close(y, maps[2] + maps[0][1] + torch.nn.functional.interpolate(maps[1][0], scale_factor=2))
    with pytest.raises(ValueError, match="shorter"):
        block.CBFuse([1])(maps)


def test_every_published_name_is_importable_from_both_places():
    names = {name for name, *_ in CASES} | {"BasicBlock", "BottleNeck", "Blocks", "HGBlock", "HGStem", "RepC3"}
    assert [name for name in names if not hasattr(modules, name)] == []
    assert [name for name in ("A2C2f", "C2f", "SPPF", "HGStem", "TransformerBlock") if not hasattr(block, name)] == []
    assert block.Conv is conv.Conv and block.autopad is conv.autopad and block.DWConv is conv.DWConv


def test_odd_sizes_are_rounded_up_by_strides_and_down_by_the_averages_of_yolov9():
    up = [block.SCDown(8, 8, 3, 2), block.GhostBottleneck(8, 8, 3, 2), conv.GhostConv(8, 8, 3, 2)]
    down = [block.ADown(8, 8), block.AConv(8, 8)]
    x = torch.rand(1, 8, 15, 11)
    assert [tuple(layer(x).shape[2:]) for layer in (*up, *down)] == [(8, 6)] * 3 + [(7, 5)] * 2


def test_conv2_adds_its_branch_to_the_center():
    layer, x = conv.Conv2(4, 6, 3, 2).eval(), torch.rand(2, 4, 8, 8)
    before = layer(x)
    layer.fuse_convs()
    torch.testing.assert_close(layer(x), before)
    assert "cv2.weight" not in layer.state_dict()


def test_c3k2_takes_groups_and_shortcut_in_the_order_before_8_4():
    for old in ([1], [1, True], [1, False], [2, True]):
        blocks = modules.C3k2(32, 32, 1, False, 0.5, *old).m
        assert isinstance(blocks[0], modules.Bottleneck) and blocks[0].add == (old[1:] != [False])
        assert blocks[0].cv2.conv.groups == old[0]
    assert isinstance(modules.C3k2(32, 32, 1, False, 0.5, True, 1, True).m[0], torch.nn.Sequential)
