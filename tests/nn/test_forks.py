"""Rows in the dialects of forks: a repository written as such repositories are, which is named as a whole."""

import pytest
import torch

from ultralytics import RTDETR
from ultralytics.cfg.model_yaml import model_keys
from ultralytics.models import Model
from ultralytics.nn.modules import SPPF
from ultralytics.nn.parser import build_module
from ultralytics.nn.registry import module_folders
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import MissingPackageError, ModelConfigError

FORK = "tests/nn/fork_repository"
EXTRA = f"{FORK}/ultralytics/nn/extra_modules"
MAP = (64, 16, 16)
SMALL, COARSE = (32, 16, 16), (96, 8, 8)
EDGE = "block=BasicBlock_Edge"
ONE_INPUT = [  # module, row, repeats, arguments of the constructor, shape of the output
    ("C2f_Edge", [128], 3, "c1=64, c2=128, n=3", (128, 16, 16)),
    ("C2f_Edge", [64, True, 1, 0.25], 2, "c1=64, c2=64, n=2, shortcut=True, g=1, e=0.25", (64, 16, 16)),
    ("C3_Strip", [64, False], 1, "c1=64, c2=64, n=1, shortcut=False", (64, 16, 16)),
    ("CSP_Two", [64], 1, "c1=64, c2=64, num_blocks=1", (64, 16, 16)),
    ("CSP_Two", [64, 0.25], 3, "c1=64, c2=64, num_blocks=3, e=0.25", (64, 16, 16)),
    ("TreeELAN", [64], 4, "c1=64, c2=64, depth=4", (64, 16, 16)),
    ("RepNELAN", [128, 64, 32], 1, "c1=64, c2=128, c3=64, c4=32", (128, 16, 16)),
    ("RepNELAN", [128, 64, 32, 2], 1, "c1=64, c2=128, c3=64, c4=32, c5=2", (128, 16, 16)),
    ("RepNELAN", [64, 64, 32], 2, "c1=64, c2=64, c3=64, c4=32", (64, 16, 16)),
    ("Doubled", [], 1, "nIn=64, nOut=128", (128, 8, 8)),
    ("Doubled", [1], 1, "nIn=64, nOut=128, dilation_rate=1", (128, 8, 8)),
    ("GhostStage", [32, 128, 3], 4, "c1=64, cm=32, c2=128, k=3, n=4", (128, 16, 16)),
    ("GhostStage", [32, 128, 5, True, False], 2, "k=5, n=2, lightconv=True, shortcut=False", (128, 16, 16)),
    ("SPDown", [128], 1, "inc=64, ouc=128", (128, 8, 8)),
    ("Blocks", [64, "BasicBlock_Edge", 2, 2, "relu"], 1, f"c2=64, {EDGE}, n=2, stage=2, act=relu", (64, 16, 16)),
    ("Blocks", [128, "BasicBlock_Edge", 1, 3, "silu"], 1, f"c2=128, {EDGE}, n=1, stage=3, act=silu", (128, 8, 8)),
    ("Blocks", [128, "BasicBlock_Edge", 1, 3], 1, f"c2=128, {EDGE}, n=1, stage=3, act=relu", (128, 8, 8)),
    ("Blocks", [32, "BottleNeck_Edge", 2, 3, "relu"], 1, "block=BottleNeck_Edge, n=2, stage=3", (128, 8, 8)),
    ("Blocks", [64, "BasicBlock_Sized", 2, 3, "relu", 20, 1], 1, "input_resolution=20, sr_ratio=1", (64, 8, 8)),
    ("Blocks", [64, "BasicBlock_KAN", 1, 2, "relu", None, None, "FastKAN"], 1, "sr_ratio=None, FastKAN", (64, 16, 16)),
    ("Blocks", [64, "BasicBlock_Edge", 1, 2, "relu", None, None, None, "b"], 1, "None, b", (64, 16, 16)),
    ("Blocks", [64, "BasicBlock_Own", 2, 5, "relu"], 1, "block=BasicBlock_Own, n=2, stage=5", (64, 8, 8)),
    ("Blocks", [64, "PlainBlock", 1, 3], 1, "block=PlainBlock, n=1, stage=3", (128, 8, 8)),
    ("Blocks", [64, "BasicBlock", 2, 2, "relu"], 1, "block=BasicBlock, n=2", (64, 16, 16)),
    ("BasicBlock_Own", [64, 2, False], 1, "ch_in=64, ch_out=64, stride=2, shortcut=False", (64, 8, 8)),
    ("BasicBlock", [64, 1, True, "relu"], 2, "ch_in=64, ch_out=64, stride=1, shortcut=True, act=relu", (64, 16, 16)),
    ("StripGate", [], 1, "dim=64", (64, 16, 16)),
    ("StripGate", [11], 2, "dim=64, k=11", (64, 16, 16)),
    ("GroupGate", [], 1, "channels=64", (64, 16, 16)),
    ("GroupGate", [4], 1, "channels=64, factor=4", (64, 16, 16)),
    ("ZeroGate", [], 1, "", (64, 16, 16)),
    ("ZeroGate", [0.1], 1, "e=0.1", (64, 16, 16)),
    ("AIFI_Strip", [128, 8], 1, "c1=64, cm=128, num_heads=8", (64, 16, 16)),
    ("TransformerEncoderLayer_Window", [128, 4], 1, "c1=64, cm=128, num_heads=4", (64, 16, 16)),
    ("LPosition", [128, 8], 1, "c1=64, cm=128, num_heads=8", (64, 16, 16)),
    ("AIFI", [128, 8], 1, "c1=64, cm=128, num_heads=8", (64, 16, 16)),
    ("WithClassAct", [32], 1, "c1=64, c2=32", (32, 16, 16)),
    ("WithClassAct", [32, "nn.SiLU"], 1, "c1=64, c2=32, act=SiLU", (32, 16, 16)),
    ("ActByName", [32, "relu"], 1, "c1=64, c2=32, act=relu", (32, 16, 16)),
    ("ActByName", [32, "SiLU"], 1, "c1=64, c2=32, act=SiLU", (32, 16, 16)),
    ("PoolDown", [], 1, "", (256, 8, 8)),
    ("UpTo", [], 1, "in_channels=64", (64, 32, 32)),
    ("UpTo", [4, "pl"], 1, "in_channels=64, scale=4, style=pl", (64, 64, 64)),
    ("Widths", [[16, 32]], 1, "inc=64, ouc_list=[16, 32]", (48, 16, 16)),
    ("Widths", [[16, 32, 16], 3], 1, "inc=64, ouc_list=[16, 32, 16], k=3", (64, 16, 16)),
    ("FromCore", [32], 1, "c1=64, c2=32", (32, 16, 16)),
    ("OnlyInFork", [32], 1, "c1=64, c2=32", (32, 16, 16)),
    ("GatedInFork", [32, 5], 1, "c1=64, c2=32, k=5", (32, 16, 16)),
    ("RepC3", [32, 0.5], 2, "c1=64, c2=32, n=2, e=0.5", (32, 16, 16)),
    ("VersionFlag", [], 1, "dim=64", (64, 16, 16)),
    ("WindowMix", [8], 1, "dim=64, heads=8", (64, 16, 16)),
    ("DSConv", [32, 5], 1, "c1=64, c2=32, k=5", (32, 16, 16)),
    ("LoadedParts", [], 1, "dim=64", (64, 16, 16)),
    ("OnlyBelow", [32], 1, "c1=64, c2=32", (32, 16, 16)),
    ("OwnNames", [32], 2, "c1=64, c2=32, n=2", (32, 16, 16)),
    ("C2f_Edge_Split", [64], 2, "c1=64, c2=64, n=2", (64, 16, 16)),
    ("nn.Upsample", [None, 2, "nearest"], 1, "size=None, scale_factor=2, mode=nearest", (64, 32, 32)),
    ("torch.nn.AvgPool2d", [2, 2], 1, "kernel_size=2, stride=2", (64, 8, 8)),
    ("torchvision.ops.SqueezeExcitation", [64, 16], 1, "input_channels=64, squeeze_channels=16", (64, 16, 16)),
    ("torchvision.ops.Conv2dNormActivation", [64, 32, 3], 1, "in_channels=64, out_channels=32", (32, 16, 16)),
]  # fmt: skip
SEVERAL_INPUTS = [
    ("Fusion", ["bifpn"], (MAP, MAP), 1, "inc_list=[64, 64], fusion=bifpn", (64, 16, 16)),
    ("Fusion", ["concat"], (MAP, SMALL), 1, "inc_list=[64, 32], fusion=concat", (96, 16, 16)),
    ("Fusion", ["weight"], (MAP, SMALL), 1, "inc_list=[64, 32], fusion=weight", (64, 16, 16)),
    ("ScalSeq3", [128], (MAP, SMALL, COARSE), 1, "inc=[64, 32, 96], channel=128", (128, 16, 16)),
    ("Add", [], (MAP, MAP), 1, "", (64, 16, 16)),
    ("BiFuse", [], (MAP, MAP, MAP), 1, "length=3", (64, 16, 16)),
    ("PairGate", [], (MAP, MAP), 1, "dim=64", (64, 16, 16)),
    ("PairGate", [4], (MAP, MAP), 1, "dim=64, reduction=4", (64, 16, 16)),
    ("TokenMix", [128], (MAP, COARSE), 2, "c_low=64, c_up=96, c2=128, n=2", (128, 16, 16)),
    ("Inject", [64, [64, 32], 1], (MAP, (96, 16, 16)), 1, "inp=64, oup=64, widths=[64, 32], flag=1", (64, 16, 16)),
    ("SumTo", [], (MAP, SMALL), 1, "inc=96", (64, 16, 16)),
    ("Squeeze", [[32, 48]], (MAP, SMALL), 1, "inc=[64, 32], ouc=[32, 48]", (48, 16, 16)),
    ("LastWidth", [], (MAP, SMALL), 1, "inc=[64, 32], ouc=32", (32, 16, 16)),
    ("Heads", [5, 32], (MAP, COARSE), 1, "nc=5, hidc=32, ch=[64, 96]", (32, 16, 16)),
    ("SliceCat", [], (MAP, SMALL), 1, "c1=64, c2=32", (48, 16, 16)),
]
OPERATORS = [  # rows whose forward needs what this machine does not have
    ("ScanBlock", [], (64, 16, 16)),
    ("ScanDown", [128], (128, 8, 8)),
    ("ScanDown", [128, 1], (128, 16, 16)),
    ("TritonMix", [32], (32, 16, 16)),
    ("CompiledUp", [], (64, 16, 16)),
    ("NeighborMix", [], (64, 16, 16)),
    ("ScanByName", [], (64, 16, 16)),
    ("DeviceMix", [], (64, 16, 16)),
    ("NeedsDCN", [32, 3, 2], (32, 8, 8)),
]


def test_there_are_sixty_kinds_of_rows():
    assert len(ONE_INPUT) + len(SEVERAL_INPUTS) + len(OPERATORS) >= 60


@pytest.mark.parametrize(("module", "args", "repeats", "arguments", "shape"), ONE_INPUT)
def test_one_input(module, args, repeats, arguments, shape):
    layer = build_module(module, args, (MAP,), repeats, modules=[FORK])
    assert arguments in layer.arguments and layer.outputs == [shape]
    assert layer.eval()(torch.rand(2, *MAP)).shape[1:] == shape


@pytest.mark.parametrize(("module", "args", "inputs", "repeats", "arguments", "shape"), SEVERAL_INPUTS)
def test_several_inputs(module, args, inputs, repeats, arguments, shape):
    layer = build_module(module, args, inputs, repeats, modules=[FORK])
    assert layer.arguments == arguments and layer.outputs == [shape]


@pytest.mark.parametrize(("module", "args", "shape"), OPERATORS)
def test_an_operator_that_this_machine_lacks_is_refused_only_when_it_runs(module, args, shape):
    layer = build_module(module, args, (MAP,), modules=[FORK])
    assert layer.outputs == [shape] and "the output is what the constructor states" in layer.assumed
    with pytest.raises((NameError, TypeError, RuntimeError, AssertionError, MissingPackageError)):
        layer(torch.rand(1, *MAP))


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("EinGate", [], r"attention\.py, line 3: 'rearrange': it needs the package 'einops' \(pip install einops\)"),
        ("NeedsNorm", [64], r"NeedsNorm inherits from a missing name: block\.py, line 7: 'BaseModule': it needs"),
        ("NeedsLost", [64], r"'Lost': there is no ultralytics\.nn\.extra_modules\.missing_file here"),
        ("NobodysFusion", [], r"no module 'NobodysFusion'; fusion\.py, line 5: .* has no such name"),
    ],
)
def test_what_is_missing_has_a_remedy(module, args, message):
    with pytest.raises(ModelConfigError, match=message):
        build_module(module, args, modules=[FORK])


def test_the_folders_of_a_fork_are_found_in_it():
    names = [folder.name for folder in module_folders([FORK])]
    assert names == ["backbone", "extra_modules", "modules", "Addmodules"]
    assert [folder.name for folder in module_folders([f"{FORK}/ultralytics"])] == names
    assert [folder.name for folder in module_folders([EXTRA])] == ["extra_modules", "Addmodules"]
    layer = build_module(
        "TransformerEncoderLayer_Window", [128, 4], modules=[EXTRA]
    )  # imports ..backbone and ..modules
    assert layer.mix.__class__.__name__ == "WindowMix"


def test_parts_keep_names_that_the_network_sets_on_layers():
    network = model([-1, 1, "OwnNames", [32]])
    assert isinstance(network.model[3][0].f, torch.nn.Conv2d) and network.model[3].f == -1
    assert network.model[3].type.endswith("block.OwnNames") and forward(network) == (1, 10, 7)


def test_published_classes_are_ours():
    assert build_module("Conv", [32], modules=[FORK]).type == "ultralytics.nn.modules.conv.Conv"
    assert build_module("RepC3", [32], modules=[FORK]).type == "ultralytics.nn.modules.block.RepC3"


@pytest.mark.parametrize("names", ["SPPF", "*"])
def test_sppf_of_a_module_file_has_all_activations_as_in_earlier_releases(tmp_path, names):
    file = tmp_path / "Pools.py"
    file.write_text(f"from ultralytics.nn.modules import {names}\n\n\nclass Pools{len(names)}(SPPF):\n    pass\n")
    pools = build_module(f"Pools{len(names)}", [32], modules=[tmp_path])
    assert isinstance(pools, SPPF) and isinstance(pools.cv1.act, torch.nn.SiLU)
    assert isinstance(type(pools)(8, 8, 5, 3).cv1.act, torch.nn.Identity)
    assert isinstance(SPPF(8, 8).cv1.act, torch.nn.Identity)


def model(*head: list, backbone: list | None = None, decoder: str = "RTDETRDecoder", **keys) -> RTDETRDetectionModel:
    """A small network with the modules of the fork, whose decoder reads the last row, or those that `reads` names."""
    rows = backbone or [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    reads = keys.pop("reads", [-1])
    last = [reads, 1, decoder, keys.pop("args", ["nc", 32, 10, 2, 4, 1])]
    return RTDETRDetectionModel({"nc": 3, "modules": [FORK], "backbone": rows, "head": [*head, last], **keys})


def forward(network: RTDETRDetectionModel) -> torch.Size:
    return network.eval()(torch.rand(1, 3, 128, 128))[0].shape


def test_a_row_of_the_neck_with_several_outputs_is_read_by_index():
    network = model(
        [[0, 1, 2], 1, "Taps", []],  # 3: maps of 16, 32, 32 channels and three sizes
        [3, 1, "GetIndexOutput", [0]],
        [3, 1, "GetIndexOutput", [2]],
        [-1, 1, "Conv", [32]],
        reads=[4, 6],
    )
    assert [layer.i for layer in network.model] == list(range(8)) and network.model[3].num_slots == 1
    assert network.layer_shapes[3] == [(1, (16, 32, 32), (320, 160, 80), (320, 160, 80))]
    assert [shapes[0][1] for shapes in network.layer_shapes[4:7]] == [16, 32, 32]
    assert forward(network) == (1, 10, 7)


def test_a_list_of_maps_in_the_backbone_has_one_number_if_it_is_read_by_index():
    backbone = [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "LateSplit", [[32, 64]]],
        [-1, 1, "GetIndexOutput", [0]],
        [1, 1, "GetIndexOutput", [1]],
    ]
    network = model(backbone=backbone, reads=[2, 3], scales={"n": [1.0, 0.5, 1024]})
    assert [shapes[0][1] for shapes in network.layer_shapes[:4]] == [8, (16, 32), 16, 32]
    assert forward(network) == (1, 10, 7)


@pytest.mark.parametrize(
    ("net", "args", "maps"), [("threenet_t", [False, 0.5], 3), ("fournet_s", [], 4), ("fivenet", [2.0], 5)]
)
def test_backbones_with_three_to_five_maps(net, args, maps):
    network = model(backbone=[[-1, 1, net, args]], reads=[3, 4])
    assert network.model[0].num_slots == 5 and len(network.layer_shapes[0]) == maps
    assert forward(network) == (1, 10, 7)


def test_a_network_of_timm_may_be_named_in_the_third_column():
    network = model(backbone=[[-1, 1, "test_resnet", [False]]], reads=[3, 4])
    assert network.model[0].type.endswith("TimmBackbone") and network.model[0].num_slots == 5
    assert forward(network) == (1, 10, 7)
    with pytest.raises(ModelConfigError, match="no module 'resnett'"):
        model(backbone=[[-1, 1, "resnett", [64]]])


@pytest.mark.parametrize(
    ("decoder", "args", "levels"),
    [
        ("RTDETRDecoder", ["nc", 32, 10, 2, 4, 1], 1),
        ("RTDETRDecoder", ["nc", 32, 10, 2, 4, 1], 4),
        ("RTDETRDecoder", ["nc", 32, 10, [8, 16, 32], 3, 2, 4, 1], 3),  # the order of the first releases
        ("RTDETRDecoder_Gated", ["nc", 32, 10, 2, 4, 1], 2),
        ("RTDETRDecoder_Light", ["nc", 32, 10], 3),  # of the fork's own file of heads
    ],
)
def test_decoders(decoder, args, levels):
    rows = [[-1, 1, "Conv", [16, 3, 2]] for _ in range(5)]
    network = model(backbone=rows, reads=list(range(5 - levels, 5)), decoder=decoder, args=args)
    assert forward(network) == (1, 10, 7) and network.model[-1].nl == levels


def test_a_decoder_of_the_forks_own_file_is_one_of_rt_detr(tmp_path):
    (tmp_path / "net.yaml").write_text(
        "nc: 3\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n  - [[-1], 1, RTDETRDecoder_Light, [nc, 32, 10]]\n"
    )
    detector = Model(str(tmp_path / "net.yaml"), modules=FORK)
    assert type(detector) is RTDETR
    assert detector.predict(torch.rand(1, 3, 64, 64), verbose=False)[0].boxes.shape[1] == 6


def test_keys_of_a_fork_are_kept():
    network = model(pretrained_mapping={"a": "b"}, fusion_mode="bifpn", reads=[0, 1])
    assert network.yaml["pretrained_mapping"] == {"a": "b"}


def test_a_key_may_stand_for_an_argument_and_channels():
    network = model(
        [-1, 1, "C2f_Edge", ["head_channel"]],
        [[2, 3], 1, "Fusion", ["fusion_mode"]],
        fusion_mode="bifpn",
        head_channel=32,
    )
    assert network.model[4].arguments == "inc_list=[32, 32], fusion=bifpn"
    assert "as the fork's parse_model" in network.model[4].assumed


def test_published_weights_keep_the_keys_that_rows_use():
    keys = {"fusion_mode": "bifpn", "head_channel": 32, "pretrained_mapping": {"a": "b"}, "modules": [FORK]}
    rows = [[-1, 1, "C2f_Edge", ["head_channel"]], [[2, 3], 1, "Fusion", ["fusion_mode"]]]
    network = model(*rows, **{k: v for k, v in keys.items() if k != "modules"})
    recorded = model_keys(network.yaml | keys)
    assert {"pretrained_mapping", "modules"}.isdisjoint(recorded)
    again = RTDETRDetectionModel(recorded, overrides={"modules": [FORK]})
    assert again.model[4].arguments == "inc_list=[32, 32], fusion=bifpn"
    again.load_state_dict(network.state_dict())


def test_an_activation_as_a_class_is_none_for_conv_as_in_the_published_package():
    layer = build_module("WithClassAct", [32], (MAP,), modules=[FORK])
    assert type(layer.conv.act) is torch.nn.Identity and type(layer.norm.act) is torch.nn.ReLU
