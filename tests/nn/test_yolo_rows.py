"""Rows of YOLO models: backbones as one row, and every registered block in backbone, neck and before either head."""

from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from tests.golden.inputs import train_batch
from ultralytics.cfg.model_yaml import find_model_yaml
from ultralytics.models import Model
from ultralytics.nn import plans
from ultralytics.nn.parser import build_module
from ultralytics.nn.registry import ADDMODULES, REGISTRY, import_folder
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.errors import ModelConfigError

HEADS_OF_FORKS = """
import torch
from torch import nn
from ultralytics.nn.modules import Conv, DFL, Detect
from ultralytics.utils.tal import dist2bbox, make_anchors

class DetectWide(Detect):
    def __init__(self, nc=80, ch=()):
        super().__init__(nc, ch)
        self.cv2 = nn.ModuleList(nn.Sequential(Conv(c, 64, 1), nn.Conv2d(64, 4 * self.reg_max, 1)) for c in ch)

class Head_Shared(nn.Module):
    dynamic, export, shape = False, False, None
    anchors = strides = torch.empty(0)

    def __init__(self, nc=80, hidden=64, ch=()):
        super().__init__()
        self.nc, self.nl, self.reg_max = nc, len(ch), 16
        self.no, self.stride = nc + 64, torch.zeros(self.nl)
        self.stems = nn.ModuleList(Conv(c, hidden, 1) for c in ch)
        self.box, self.score = nn.Conv2d(hidden, 64, 1), nn.Conv2d(hidden, nc, 1)
        self.dfl = DFL(16)

    def forward(self, x):
        x = [stem(level) for stem, level in zip(self.stems, x)]
        x = [torch.cat((self.box(level), self.score(level)), 1) for level in x]
        if self.training:
            return x
        if self.dynamic or self.shape != x[0].shape:
            self.anchors, self.strides = (t.transpose(0, 1) for t in make_anchors(x, self.stride, 0.5))
            self.shape = x[0].shape
        box, score = torch.cat([m.flatten(2) for m in x], 2).split((64, self.nc), 1)
        box = dist2bbox(self.dfl(box), self.anchors.unsqueeze(0), xywh=True, dim=1) * self.strides
        y = torch.cat((box, score.sigmoid()), 1)
        return y if self.export else (y, x)

    def bias_init(self):
        for s in self.stride:
            self.score.bias.data[:] = torch.log(5 / self.nc / (640 / s) ** 2)
"""

BATCH = {key: torch.from_numpy(value) for key, value in train_batch(0, 64, 64, nc=3).items()}
READY = ("yolov8{}-efficientvit", "yolo11{}-efficientvit", "yolo26{}-efficientvit", "yolo11{}-timm")
BACKBONES = [
    *([f"EfficientViT_M{n}", []] for n in range(6)),
    ["TimmBackbone", ["convnext_atto"]],
    ["TorchVisionBackbone", ["resnet18"]],
]
HEADS = {"Detect": ["nc"], "RTDETRDecoder": ["nc", 256, 300, 4, 8, 3]}
PLACES = {  # rows that are followed by new ones: in the backbone, in the neck, before the head; with their channels
    "yolov8": {6: 512, 15: 256, 21: 1024},
    "yolo11": {6: 512, 16: 256, 22: 1024},
    "yolo26": {6: 512, 16: 256, 22: 1024},
}
ARGUMENTS = {  # of rows whose constructors require some, after the channels
    "ConvNormLayer": [3, 1], "SCDown": [3, 1], "SPPELAN": [64], "RepNCSPELAN4": [64, 32], "ELAN1": [64, 32],
    "PConv": [2], "EMA": [8], "CoordAtt": [16], "AIFI": [128, 8],
}  # fmt: skip
UP = {"ConvTranspose": [2, 2], "DWConvTranspose2d": [2, 2], "CARAFE": [2]}  # in place of nn.Upsample
DOWN = {"Focus": [3], "AConv": [], "ADown": []}  # in place of Conv with stride 2
import_folder(ADDMODULES)


def content(name: str, scale: str = "n") -> dict[str, Any]:
    """A model file's content, its rows read by name, so that rows can be inserted."""
    data = yaml.safe_load(find_model_yaml(f"{name}.yaml")[0].read_text()) | {"scale": scale, "nc": 3}
    for number, row in enumerate([*data["backbone"], *data["head"]]):
        sources = row[0] if isinstance(row[0], list) else [row[0]]
        named = [f"r{source}" if source >= 0 else source for source in sources]
        row[0] = named if isinstance(row[0], list) else named[0]
        row.append(f"r{number}")
    return data


def network(data: dict[str, Any]) -> DetectionModel:
    with torch.device("meta"):
        return DetectionModel(data)


def rows_at(number: int, channels: int) -> list[list[Any]]:
    """A row, repeated, for each registered block that keeps the size of its map."""
    rows = []
    for name, module in REGISTRY.items():
        c2 = [] if module.plan is plans.channel_preserving else [channels]
        if module.plan in (plans.conv, plans.csp, plans.channel_preserving) and name not in UP | DOWN:
            rows.append([-1, 2, name, [*c2, *ARGUMENTS.get(name, [])], f"{name}_{number}"])
    return rows


@pytest.mark.parametrize(
    ("name", "head"),
    [("yolov8", "Detect"), ("yolov8", "RTDETRDecoder"), ("yolo11", "Detect"), ("yolo26", "RTDETRDecoder")],
)
def test_every_block_is_a_row_anywhere_in_a_yolo_model(name, head):
    data = content(name, "s")
    width, limit = 0.5, 512
    data["scales"]["s"] = [1.0, width, limit]
    expected, last = {}, data["head"][-1]
    last[2:4] = [head, HEADS[head]]
    for section in (data["backbone"], data["head"]):
        for row in [row for row in section if int(row[4][1:]) in PLACES[name]]:
            number = int(row[4][1:])
            added = rows_at(number, PLACES[name][number])
            expected |= {entry[4]: int(min(PLACES[name][number], limit) * width) for entry in added}
            section[section.index(row) + 1 : section.index(row) + 1] = added
            last[0] = [added[-1][4] if source == row[4] else source for source in last[0]]
    model = network(data)
    layers = {layer.row_name: (layer, shapes) for layer, shapes in zip(model.model, model.layer_shapes, strict=True)}
    assert len(expected) > 100
    for row_name, channels in expected.items():
        layer, ((_, c2, *_),) = layers[row_name]
        assert c2 == channels, row_name
        assert layer.row_repeats == 2 or ", n=2" in layer.arguments, row_name
    assert type(model.model[-1]).__name__ == head


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", [*UP, *DOWN])
def test_blocks_that_change_the_size_are_rows_of_the_neck(name, head):
    data = content("yolov8")
    keeps = REGISTRY[name].plan is plans.channel_preserving
    for row in data["head"]:
        if row[2] == ("nn.Upsample" if name in UP else "Conv"):
            args = UP[name] if name in UP else DOWN[name]
            row[2:4] = [name, args if keeps else [row[3][0] if name in DOWN else 512, *args]]
    data["head"][-1][2:4] = [head, HEADS[head]]
    assert sum(layer.row_module == name for layer in network(data).model) == 2


@pytest.mark.parametrize("name", READY)
def test_ready_files_build_at_every_scale_and_with_every_backbone(name):
    sizes = [sum(p.numel() for p in network(f"{name.format(scale)}.yaml").parameters()) for scale in "nsmlx"]
    assert sizes == sorted(sizes)
    data = yaml.safe_load(find_model_yaml(f"{name.format('')}.yaml")[0].read_text()) | {"scale": "n"}
    for backbone in BACKBONES:
        data["backbone"][0][2:4] = backbone
        model = network(data)
        assert model.stride.tolist() == [8, 16, 32]
        assert model.backbone_layers == {0}


@pytest.mark.parametrize("name", READY)
def test_ready_files_train_and_trace(name):
    model = DetectionModel(f"{name.format('n')}.yaml", nc=3)
    loss, _ = model.train().loss(BATCH)
    loss.backward()
    unused = [key for key, p in model.named_parameters() if p.grad is None and ".dfl." not in key]
    assert loss.isfinite() and not unused
    head = model.eval().model[-1]
    head.export = True
    x = torch.rand(1, 3, 64, 96)
    traced = torch.jit.trace(model, x, check_trace=False)
    with torch.no_grad():
        y: Tensor = model(x)
        torch.testing.assert_close(traced(x), y, rtol=1e-4, atol=1e-4)
    assert y.shape == ((1, 126, 6) if model.end2end else (1, 4 + 3, 126))


@pytest.mark.parametrize(("head", "args"), [("DetectWide", ["nc"]), ("Head_Shared", ["nc", 64])])
def test_heads_of_forks_train_and_predict(head, args, tmp_path):
    (tmp_path / "heads.py").write_text(HEADS_OF_FORKS)
    data = content("yolov8") | {"modules": [str(tmp_path)]}
    data["head"][-1][2:4] = [head, args]
    assert network(data).stride.tolist() == [8, 16, 32]  # on the meta device
    model = DetectionModel(data)
    assert model.stride.tolist() == model.model[-1].stride.tolist() == [8, 16, 32]
    loss, _ = model.train().loss(BATCH)
    loss.backward()
    assert loss.isfinite()
    with torch.no_grad():
        y, raw = model.eval()(BATCH["img"])
        assert y.shape == (2, 4 + 3, 84)
        assert model.loss(BATCH, (y, raw))[0].isfinite()
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(data))
    assert type(Model(tmp_path / "model.yaml", verbose=False)).__name__ == "YOLO"


BLOCKS_OF_FORKS = """
from torch import nn
from ultralytics.nn.modules import C3k2

class Rescale(nn.Module):
    def __init__(self, factor=0.5, k_size=3):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor

class Channels(nn.Module):
    def __init__(self, k_size=3):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, k_size, padding=k_size // 2)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)

class C3k2_Own(C3k2):
    pass

def small_net(pretrained=False):
    assert pretrained is False
    return nn.Conv2d(3, 8, 3, 2, 1)
"""


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (["CBAM", [512, 7]], "c1=128, kernel_size=7"), (["ChannelAttention", [512]], "channels=128"),
        (["SEAttention", [512, 4]], "channels=128, reduction=4"), (["SEAttention", [4]], "channels=128, reduction=4"),
        (["Rescale", [512]], ""), (["Rescale", [0.25]], "factor=0.25"),
        (["Channels", [512]], ""), (["Channels", [5]], "k_size=5"),
    ],
)  # fmt: skip
def test_attention_rows_may_start_with_the_channels_of_their_input(row, expected, tmp_path):
    (tmp_path / "blocks.py").write_text(BLOCKS_OF_FORKS)
    data = content("yolov8") | {"modules": [str(tmp_path)]}
    data["backbone"].insert(7, [-1, 1, *row, "added"])
    (layer,) = (layer for layer in network(data).model if layer.row_name == "added")
    assert layer.arguments == expected


def test_a_backbone_that_is_pretrained_on_request_gets_no_channels(tmp_path):
    (tmp_path / "blocks.py").write_text(BLOCKS_OF_FORKS)
    layer = build_module("small_net", inputs=((3, 64, 64),), modules=[tmp_path])
    assert (layer.arguments, layer.outputs) == ("", [(8, 32, 32)])


@pytest.mark.parametrize(
    ("parser", "legacy"),
    [
        ("if m in {C3k2, C3k2_Own}:\n            legacy = False", False),
        ("if m is C3k2:\n            legacy = False", True),  # the fork's own block is not among them
        ("pass", True),  # of releases before 8.3
        ("if m is C3k2:\n            pass", False),  # of the first ones of 8.3
        ("legacy = choose(m)", False),  # unknown: as in the published package
    ],
)
def test_the_class_branch_of_a_fork_is_that_of_its_parser(parser, legacy, tmp_path):
    folder = tmp_path / "ultralytics" / "nn" / "own"
    folder.mkdir(parents=True)
    (folder / "blocks.py").write_text(BLOCKS_OF_FORKS)
    (folder.parent / "tasks.py").write_text(f"def parse_model(d):\n    for m in d:\n        {parser}\n")
    data = content("yolo11") | {"modules": [str(tmp_path)]}
    for row in (*data["backbone"], *data["head"]):
        row[2] = "C3k2_Own" if row[2] == "C3k2" else row[2]
    assert network(data).model[-1].legacy == legacy


def test_anchors_are_no_argument_of_the_head():
    data = content("yolov8") | {"anchors": [[10, 13], [30, 61]]}
    data["head"][-1][3] = ["nc", "anchors"]
    with pytest.raises(ModelConfigError, match=r"the head has no anchors, write \[nc\]; got"):
        network(data)
