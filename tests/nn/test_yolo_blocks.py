"""YOLO blocks against the published package: names, shapes and values; gradients; folding; rows."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden.yolo_blocks import CASES, build, case_input, joined, keys_crc, samples
from ultralytics.nn.build import build_module
from ultralytics.utils.torch_utils import fuse_conv_and_bn, fuse_deconv_and_bn, make_divisible

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


@pytest.mark.parametrize("i", range(len(CASES)), ids=IDS)
@torch.no_grad()
def test_folding_keeps_the_output_and_leaves_no_normalisation(i):
    module, x = build(*CASES[i][:2]).double(), case_input(i).double()
    folded = copy.deepcopy(module)
    for part in list(folded.modules()):
        if hasattr(type(part), "fold"):
            part.fold()
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    expected = joined(module(x))
    torch.testing.assert_close(joined(folded(x)), expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "args", "parameters"),  # of a row with repeats 2 on 64 channels, as the published parser builds it
    [
        ("GhostConv", [16, 3], 9680 // 2), ("C1", [16], 5728), ("C2", [16], 3712), ("C2f", [16], 3968),
        ("C3", [16], 2688), ("C3x", [16], 2176), ("C3TR", [32], 8208), ("C3Ghost", [16], 1756),
        ("BottleneckCSP", [16], 3792), ("C3k2", [16], 2800), ("C2PSA", [64], 24256), ("C2fPSA", [64], 28352),
        ("C2fCIB", [16], 2912), ("SCDown", [16, 3, 2], 1232), ("SPPF", [16], 2096 * 2), ("ADown", [16], 2592),
    ],
)  # fmt: skip
def test_rows_build_what_the_published_parser_builds(name, args, parameters):
    copies = name in ("GhostConv", "SCDown", "SPPF", "ADown")
    layer = build_module(name, args, inputs=((64, 32, 32),), repeats=1 if copies else 2)
    if name == "SPPF":  # its published count has a convolution of 64 to 32 and one of 128 to 16, with normalisations
        assert layer.np == 64 * 32 + 2 * 32 + 128 * 16 + 2 * 16 == parameters
    assert layer.np == parameters


@torch.no_grad()
def test_named_helpers_fold_a_convolution_of_a_fork():
    for conv, fuse in (
        (torch.nn.Conv2d(4, 6, 3, groups=2), fuse_conv_and_bn),
        (torch.nn.ConvTranspose2d(4, 6, 2, 2, bias=False), fuse_deconv_and_bn),
    ):
        bn = torch.nn.BatchNorm2d(6).eval()
        bn.running_mean.uniform_()
        bn.running_var.uniform_(0.5, 2)
        x = torch.rand(2, 4, 8, 8)
        expected = bn(conv(x))
        torch.testing.assert_close(fuse(conv, bn)(x), expected)


def test_make_divisible_rounds_up():
    assert [make_divisible(x, 8) for x in (1, 8, 8.5, 20)] == [8, 8, 16, 24]
