"""Rows of modules without a plan: a folder of files written as in forks."""

import pytest
import torch

from ultralytics.nn.parser import build_module
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ModelConfigError

FOLDER = "tests/nn/fork_modules"
MAP = (64, 16, 16)
TRANSPOSED = "in_channels=64, out_channels=64, kernel_size=3, stride=2, padding=1, output_padding=1"


@pytest.mark.parametrize(
    ("module", "args", "repeats", "arguments", "channels"),
    [
        ("SepConv", [128, 3, 2], 1, "in_channels=64, out_channels=128, kernel_size=3, stride=2", 128),
        ("SepConv", [64], 3, "in_channels=64, out_channels=64", 64),
        ("Halve", [96], 1, "inc=64, ouc=96", 96),
        ("SpaceToDepth", [1], 1, "dimension=1", 256),
        ("CSPGate", [128], 3, "c1=64, c2=128, n=3", 128),
        ("CSPGate", [128, True], 2, "c1=64, c2=128, n=2, shortcut=True", 128),
        ("C3_Light", [64], 2, "c1=64, c2=64, n=2", 64),
        ("Gate", [], 1, "dim=64", 64),
        ("Gate", [8], 1, "dim=64, reduction=8", 64),
        ("Gate", [64], 1, "dim=64", 64),
        ("Gate", [64, 4], 1, "dim=64, reduction=4", 64),
        ("InOutGate", [], 1, "inp=64, oup=64", 64),
        ("InOutGate", [64, 64], 1, "inp=64, oup=64", 64),
        ("InOutGate", [64], 1, "inp=64, oup=64", 64),
        ("Free", [], 1, "", 64),
        ("Free", [0.001], 1, "e_lambda=0.001", 64),
        ("TwoGates", [], 1, "no_spatial=64", 64),
        ("TwoGates", [False], 1, "no_spatial=False", 64),
        ("WithDefault", [], 1, "channel=64", 64),
        ("Optional", [], 1, "channels=64", 64),
        ("Sized", [], 1, "dim=64, input_resolution=(16, 16)", 64),
        ("Positions", [], 1, "n_dims=64, width=16, height=16", 64),
        ("TableOnCpu", [], 1, "channels=64", 64),
        ("nn.Conv2d", [96, 1], 1, "in_channels=64, out_channels=96, kernel_size=1", 96),
        ("nn.ConvTranspose2d", [64, 3, 2, 1, 1], 1, TRANSPOSED, 64),
        ("Repeated", [128], 3, "c1=64, c2=128, c5=3", 128),
        ("Stage", [32, 128], 2, "c1=64, cm=32, c2=128, n=2", 128),
        ("Stage", [32, 128, 5, True], 4, "c1=64, cm=32, c2=128, k=5, n=4, lightconv=True", 128),
        ("Blocks", [32, "PlainBlock", 2], 2, "ch_in=64, ch_out=32, count=2, block=PlainBlock, stage_num=2", 64),
        ("nn.BatchNorm2d", [64], 1, "num_features=64", 64),
    ],
)
def test_one_input(module, args, repeats, arguments, channels):
    layer = build_module(module, args, (MAP,), repeats, modules=[FOLDER])
    assert layer.arguments == arguments
    assert layer.outputs[0][0] == channels
    assert layer(torch.rand(2, *MAP)).shape[1] == channels
    assert bool(layer.assumed) == (module != "nn.BatchNorm2d")


def test_channels_are_not_taken_as_a_number_of_repeats():
    with pytest.raises(ModelConfigError, match="Scaled"):
        build_module("Scaled", [128], (MAP,), modules=[FOLDER])


@pytest.mark.parametrize(
    ("module", "args", "inputs", "arguments", "channels"),
    [
        ("WeightedSum", [], (64, 64, 64), "length=3", 64),
        ("WeightedSum", [1], (64, 64), "length=2", 64),
        ("Leveled", [0, [64, 32]], (64, 32), "level=0, channel=[64, 32]", 64),
        ("Leveled", [1], (48, 24), "level=1, channel=[48, 24]", 24),
        ("Project", [], (64, 64), "in_channels_list=[64, 64], out_channels=64", 64),
        ("ConcatAlong", [1], (64, 32), "dimension=1", 96),
        ("ConcatAlong", [], (64, 32), "", 96),
        ("Fusion", ["bifpn"], (64, 32), "inc_list=[64, 32], fusion=bifpn", 64),
        ("Project", [48], (64, 32), "in_channels_list=[64, 32], out_channels=48", 48),
        ("Pair", [], (64, 64), "dim=64", 64),
        ("Pair", [4], (64, 64), "dim=64, reduction=4", 64),
    ],
)
def test_several_inputs(module, args, inputs, arguments, channels):
    layer = build_module(module, args, [(c, 16, 16) for c in inputs], modules=[FOLDER])
    assert layer.arguments == arguments and layer.outputs == [(channels, 16, 16)]


@pytest.mark.parametrize(
    ("module", "args", "numbers", "queries"),
    [("net_tiny", [], 4, 6), ("net_three", [True], 3, 10), ("FourOutputs", [0.5], 4, 2)],
)
def test_backbones_are_right_aligned_in_five_slots(module, args, numbers, queries):
    model = RTDETRDetectionModel(detector([-1, 1, module, args]))
    first = model.model[0]
    assert (first.num_slots, first.i, len(model.layer_shapes[0])) == (5, 4, numbers)
    assert model.eval()(torch.rand(1, 3, 64, 96))[0].shape == (1, queries, 7)


def test_a_block_may_be_named_by_its_class():
    layer = RTDETRDetectionModel(detector([-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Stack", [16, "PlainBlock", 2]]))
    assert layer.model[1].arguments == "ch_in=16, ch_out=16, block=PlainBlock, count=2"


def test_channels_of_a_row_are_scaled():
    config = detector([-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Gate", [64]], scales={"n": [1.0, 0.5, 1024]})
    assert RTDETRDetectionModel(config).model[1].arguments == "dim=32"


def test_the_table_shows_what_was_inferred_and_the_decorator():
    table = RTDETRDetectionModel(detector([-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Gate", [8]])).table()
    assert "dim=64, reduction=8" in table
    assert "1 Gate: input channels, the row's arguments: @register(plans.channel_preserving)" in table


@pytest.mark.parametrize(
    ("module", "args", "inputs", "line"),
    [
        ("SepConv", [128, 3, 2], [MAP], "@register(plans.conv)"),
        ("CSPGate", [128], [MAP], "@register(plans.csp)"),
        ("ConcatAlong", [1], [MAP, MAP], "@register(plans.concat)"),
        ("net_tiny", [], [(3, 64, 64)], "@register(plans.backbone(8, 16, 24, 32))"),
        ("Sized", [], [MAP], "input_resolution=(16, 16) by name"),  # no plan of the package builds the same
    ],
)
def test_the_decorator_builds_the_same(module, args, inputs, line):
    assert build_module(module, args, inputs, modules=[FOLDER]).assumed.endswith(line)


def test_an_attempt_that_fails_leaves_the_weights_of_the_next_alone():
    torch.manual_seed(0)
    first = build_module("Gate", [64], modules=[FOLDER]).fc[0].weight
    torch.manual_seed(0)
    assert torch.equal(build_module("Gate", [], modules=[FOLDER]).fc[0].weight, first)


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("Gate", [64, 200], r"Gate\(64, 200\): its parameter fc.0.weight is empty, \(0, 64, 1, 1\)"),
        ("Project", [48], r"Project.* cannot be built: TypeError: 'int' object is not iterable"),
        ("Stack", [], "Stack: its constructor takes"),
        ("Gate", ["x"], r"inferred \(input channels, .*@register\(plans\.channel_preserving\) makes"),
    ],
)
def test_a_row_that_fits_no_convention(module, args, message):
    with pytest.raises(ModelConfigError, match=message):
        build_module(module, args, modules=[FOLDER])


def detector(*rows, **keys) -> dict:
    """A small model whose decoder reads the last of these rows."""
    head = [[[-1], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 1]]]
    return {"nc": 3, "modules": [FOLDER], "backbone": list(rows), "head": head, **keys}
