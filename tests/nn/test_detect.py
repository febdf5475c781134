"""Detect, the dense head: rows, branches, decoding, selection, export. Whole models are in test_yolo_models.py."""

import copy

import pytest
import torch
from torch import nn

from ultralytics.nn import head_protocol
from ultralytics.nn.modules.detect import Detect, v10Detect
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.ops import xywh2xyxy

MAPS = [torch.rand(2, 16, side, side, generator=torch.Generator().manual_seed(side)) for side in (8, 4)]


def head(**kwargs) -> Detect:
    torch.manual_seed(0)
    built = Detect(**{"nc": 3, "ch": (16, 16), **kwargs}).eval()
    built.stride = 8, 16
    return built


def small(block: str = "C2f", row: list | None = None, **keys) -> dict:
    """A model file with `block` at stride 8 and a Detect row on strides 8 and 16."""
    backbone = [[-1, 1, "Conv", [16, 3, 8]], [-1, 1, block, [64]], [-1, 1, "Conv", [32, 3, 2]]]
    return {"nc": 3, "backbone": backbone, "head": [[[1, 2], 1, "Detect", row or ["nc"]]], **keys}


@pytest.mark.parametrize(
    ("config", "reg_max", "paired"),
    [
        (small(), 16, False),
        (small(row=["nc", 8, True]), 8, True),
        (small(reg_max=1, end2end=True), 1, True),
        (small(row=["nc", 8, True], end2end=False), 8, False),
    ],
)
def test_rows_and_keys_choose_distribution_and_branches(config, reg_max, paired):
    model = DetectionModel(config)
    layer = model.model[-1]
    assert (layer.reg_max, layer.no, hasattr(layer, "one2one_cv2")) == (reg_max, 3 + 4 * reg_max, paired)
    assert isinstance(layer.dfl, nn.Identity) == (reg_max == 1)
    assert model.end2end is layer.end2end is paired  # one-to-one by default
    assert model.stride.tolist() == layer.stride.tolist() == [8, 16]
    assert layer.layout == (head_protocol.END2END if paired else head_protocol.ANCHORS)


@pytest.mark.parametrize(
    ("block", "legacy"), [("C2f", True), ("C2PSA", True), ("C3k2", False), ("C2fCIB", False), ("A2C2f", False)]
)
def test_the_class_branch_depends_on_the_blocks_of_the_file(block, legacy):
    config = small(block)
    config["backbone"][0][3] = [64, 3, 8]
    assert DetectionModel(config).model[-1].legacy == legacy  # as the published parser builds it


@pytest.mark.parametrize(
    ("name", "counts"),  # parameters at 1, 3 and 200 classes, of the published package
    [
        ("yolov8n", (3011043, 3011433, 3376440)), ("yolo26n", (2504190, 2504970, 2695920)),
    ],
)  # fmt: skip
def test_parameters_for_other_numbers_of_classes(name, counts):
    for nc, count in zip((1, 3, 200), counts, strict=True):
        assert sum(p.numel() for p in DetectionModel(f"{name}.yaml", nc=nc).parameters()) == count


def test_biases_start_from_two_cells_and_a_low_prior():
    for layer in (DetectionModel("yolov8n.yaml").model[-1], DetectionModel("yolo26n.yaml").model[-1]):
        for boxes, scores in layer._branches().values():
            assert boxes[0][-1].bias.tolist() == [2.0] * 4 * layer.reg_max
            assert scores[0][-1].bias[0].item() == pytest.approx(-11.536642, rel=1e-6)  # of the published package
            assert scores[1][-1].bias[0].item() == pytest.approx(-10.150348, rel=1e-6)


def test_the_one_to_one_branch_does_not_train_the_layers_before():
    layer = head(end2end=True).train()
    maps = [level.clone().requires_grad_() for level in MAPS]
    raw = layer(maps)
    raw["one2one"]["boxes"].sum().backward()
    assert maps[0].grad is None and layer.one2one_cv2[0][0].conv.weight.grad is not None
    raw["one2many"]["boxes"].sum().backward()
    assert maps[0].grad.abs().sum() > 0
    layer.eval()
    assert torch.autograd.grad(layer(maps)[0].sum(), maps[0])[0].abs().sum() > 0  # for heat maps


@torch.no_grad()
@pytest.mark.parametrize("reg_max", [1, 8])
def test_boxes_are_distances_from_the_cell_centers(reg_max):
    layer = head(reg_max=reg_max)
    y, raw = layer(MAPS)
    position, level, column, row = 64 + 4 * 2 + 1, 1, 1, 2  # of the second map, stride 16
    raw_box = raw["boxes"][0, :, position].view(4, reg_max)
    sides = raw_box[:, 0] if reg_max == 1 else (raw_box.softmax(1) * torch.arange(reg_max)).sum(1)
    x, z = (column + 0.5) * 16, (row + 0.5) * 16
    left, up, right, down = (16 * sides).tolist()
    corners = xywh2xyxy(y[0, :4, position]).tolist()
    assert corners == pytest.approx([x - left, z - up, x + right, z + down], abs=1e-4)
    assert torch.equal(y[0, 4:, position], raw["scores"][0, :, position].sigmoid())
    assert raw["feats"][level] is MAPS[level]


@torch.no_grad()
def test_mixed_precision_does_not_round_the_boxes():
    layer = head(reg_max=1)
    y = layer(MAPS)[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(MAPS)[0]
    assert mixed.dtype == torch.float32
    assert (mixed[:, :4] - y[:, :4]).abs().max() < 0.5  # pixels; the centers alone, up to 64, have steps of 0.25 to 0.5
    assert not torch.equal(mixed[:, :4].bfloat16().float(), mixed[:, :4])


@torch.no_grad()
def test_end_to_end_detections_are_the_best_pairs_of_position_and_class():
    layer = head(end2end=True)
    layer.max_det = 20
    best, raw = layer(MAPS)
    layer.end2end = False
    layer.cv2, layer.cv3 = layer.one2one_cv2, layer.one2one_cv3  # the same branch, for NMS
    y = layer(MAPS)[0]
    for image in range(2):
        scores, index = y[image, 4:].flatten().sort(descending=True)
        assert torch.equal(best[image, :, 4], scores[:20])
        assert torch.equal(best[image, :, 5], (index[:20] // 80).float())
        boxes = xywh2xyxy(y[image, :4].T[index[:20] % 80])
        torch.testing.assert_close(best[image, :, :4], boxes, rtol=0, atol=1e-4)
    assert set(raw) == {"one2many", "one2one"}


@torch.no_grad()
@pytest.mark.parametrize("end2end", [False, True])
def test_an_exported_head_returns_y_alone_and_traces_for_any_size(end2end):
    layer = head(end2end=end2end)
    layer.export, layer.max_det = True, 20
    traced = torch.jit.trace(layer, (MAPS,), check_trace=False)
    maps = [torch.rand(1, 16, 6, 10), torch.rand(1, 16, 3, 5)]
    assert torch.equal(traced(maps), layer(maps))


def test_the_branch_of_the_predictions_can_be_chosen_where_it_exists():
    with pytest.raises(ModelConfigError, match="end2end=True: the head Detect does not have a one-to-one branch"):
        head().end2end = True
    with pytest.raises(ModelConfigError, match="RTDETRDecoder has no such branch"):
        DetectionModel("rtdetr-r18.yaml").end2end = True
    for end2end in (True, False):
        layer = v10Detect(3, (16, 16)).eval()
        layer.stride, layer.end2end = (8, 16), end2end
        folded = copy.deepcopy(layer)
        folded.fold()
        assert torch.equal(folded(MAPS)[0], layer(MAPS)[0])
        with pytest.raises(ModelConfigError, match="does not have"):
            folded.end2end = not end2end


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (small(reg_max=0), "reg_max must be a whole number from 1 to 256; got 0"),
        (small(end2end="yes"), "end2end must be True or False, got 'yes'"),
        (small(row=["nc", "x"]), "Detect: reg_max must be a whole number from 1, got 'x'"),
        ({**small(), "head": [[-1, 1, "Detect", ["nc"]]]}, "takes a list of maps: write the numbers in brackets"),
        ({**small(), "head": [[[1, 2], 1, "Segment", ["nc"]]]}, "Segment is a head of the task 'segment'; "),
        ({**small(), "head": [[[1, 2], 1, "OBB26", ["nc", 1]]]}, "OBB26 is a head of the task 'obb'"),
    ],
)
def test_wrong_rows_and_keys_are_refused(config, message):
    with pytest.raises(ModelConfigError, match=message):
        DetectionModel(config)


def test_linked_branches_share_a_layer_number():
    backbone = [
        [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "CBLinear", [[8, 16]]], [0, 1, "Conv", [16, 3, 2]],
        [[1, -1], 1, "CBFuse", [[1]]],
    ]  # fmt: skip
    model = DetectionModel({"nc": 3, "backbone": backbone, "head": [[[0, 3], 1, "Detect", ["nc"]]]}).eval()
    assert model.layer_shapes[1] == [(1, (8, 16), 320, 320)] and "(8, 16)x320x320" in model.table()
    x = torch.rand(1, 3, 64, 64)
    y = model(x)[0]
    torch.testing.assert_close(copy.deepcopy(model).fuse()(x)[0], y)
    assert model.predict(x, embed=[1])[0].shape == (16,)  # of the last of its maps
    backbone[-1][3] = [[1, 0]]
    with pytest.raises(ModelConfigError, match=r"CBFuse reads 2 layers; expected one index fewer, got \[1, 0\]"):
        DetectionModel({"nc": 3, "backbone": backbone, "head": [[[0, 3], 1, "Detect", ["nc"]]]})
