import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ultralytics.utils import ops
from ultralytics.utils.ops import bbox_iou, clip_boxes, scale_boxes, xywh2xyxy, xyxy2xywh

GOLDEN = Path(__file__).parents[1] / "golden"
NUMBERS = np.load(GOLDEN / "boxes_8.4.190.npz")
CASES = json.loads((GOLDEN / "boxes_8.4.190.json").read_text())["cases"]
CONVERT = (np.asarray, torch.from_numpy)


@pytest.mark.parametrize("convert", CONVERT)
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"case{c['case']}")
def test_scale_boxes_agrees_with_the_reference(case, convert):
    arguments = {k: case[k] for k in ("img1_shape", "img0_shape", "padding", "xywh")}
    given = convert(NUMBERS[f"c{case['case']}_in"])
    before = given.copy() if isinstance(given, np.ndarray) else given.clone()
    result = scale_boxes(boxes=given, **arguments)
    assert type(result) is type(given)
    np.testing.assert_allclose(result, NUMBERS[f"c{case['case']}_out"], rtol=1e-6, atol=1e-4)
    assert (given == before).all()


@pytest.mark.parametrize("convert", CONVERT)
@pytest.mark.parametrize("function", [xywh2xyxy, xyxy2xywh])
def test_conversions_agree_with_the_reference(function, convert):
    result = function(convert(NUMBERS["conv_in"]))
    np.testing.assert_allclose(result, NUMBERS[f"conv_{function.__name__}"], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("kind", ["IoU", "GIoU", "DIoU", "CIoU"])
@pytest.mark.parametrize("xywh", [True, False])
def test_overlap_agrees_with_the_reference(kind, xywh):
    box1, box2 = (torch.from_numpy(NUMBERS[f"iou_box{i}"]) for i in (1, 2))
    if not xywh:
        box1, box2 = xywh2xyxy(box1), xywh2xyxy(box2)
    result = bbox_iou(box1, box2, xywh=xywh, **({kind: True} if kind != "IoU" else {}))
    np.testing.assert_allclose(result, NUMBERS[f"iou_{kind}"], rtol=1e-5, atol=1e-6)


def test_five_columns_and_two_kinds_of_overlap_are_refused():
    for function in (xywh2xyxy, xyxy2xywh, lambda b: clip_boxes(b, (4, 4))):
        with pytest.raises(ValueError, match="expected 4 numbers"):
            function(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="at most one"):
        bbox_iou(torch.rand(1, 4), torch.rand(1, 4), GIoU=True, CIoU=True)


@pytest.mark.parametrize("convert", CONVERT)
@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (lambda b: scale_boxes((100, 100), b, (40, 40), ((2, 4), (20, 10))), [20, 50, 60, 90], [0, 20, 10, 40]),
        (ops.xyxy2ltwh, [10, 20, 40, 80], [10, 20, 30, 60]),
        (ops.ltwh2xyxy, [10, 20, 30, 60], [10, 20, 40, 80]),
        (ops.xywh2ltwh, [25, 50, 30, 60], [10, 20, 30, 60]),
        (ops.ltwh2xywh, [10, 20, 30, 60], [25, 50, 30, 60]),
        (lambda b: ops.xywhn2xyxy(b, w=100, h=200), [0.25, 0.25, 0.3, 0.3], [10, 20, 40, 80]),
        (lambda b: ops.xywhn2xyxy(b, w=100, h=200, padw=5, padh=-5), [0.25, 0.25, 0.3, 0.3], [15, 15, 45, 75]),
        (lambda b: ops.xyxy2xywhn(b, w=100, h=200), [10, 20, 40, 80], [0.25, 0.25, 0.3, 0.3]),
        (lambda b: ops.xyxy2xywhn(b, w=100, h=200, clip=True), [-10, 20, 40, 300], [0.2, 0.55, 0.4, 0.9]),
    ],
)
def test_forms_of_boxes(function, given, expected, convert):
    boxes = convert(np.array([given], np.float32))
    result = function(boxes)
    assert type(result) is type(boxes)
    np.testing.assert_allclose(result, [expected], rtol=1e-5)
