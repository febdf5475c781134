import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden import inputs
from ultralytics.utils import ops
from ultralytics.utils.ops import bbox_iou, clip_boxes, non_max_suppression, scale_boxes, xywh2xyxy, xyxy2xywh

GOLDEN = Path(__file__).parents[1] / "golden"
NUMBERS = np.load(GOLDEN / "boxes_8.4.190.npz")
CASES = json.loads((GOLDEN / "boxes_8.4.190.json").read_text())["cases"]
NMS = np.load(GOLDEN / "nms_8.4.190.npz")
NMS_CASES = json.loads((GOLDEN / "nms_8.4.190.json").read_text())
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


@pytest.mark.parametrize("form", [lambda y: y, lambda y: (y, {})])
@pytest.mark.parametrize("case", range(len(NMS_CASES["cases"])))
def test_nms_agrees_with_the_reference(case, form):
    prediction = torch.from_numpy(inputs.nms_input(NMS_CASES["seed"]))
    rows, positions = non_max_suppression(form(prediction), return_idxs=True, **NMS_CASES["cases"][case])
    for i in range(2):
        assert np.array_equal(rows[i], NMS[f"c{case}_out{i}"])
        assert np.array_equal(positions[i], NMS[f"c{case}_idx{i}"])


@pytest.mark.parametrize("agnostic", [True, False])
@pytest.mark.parametrize("classes", [None, [2, 0, 5]])
@pytest.mark.parametrize("max_det", [1, 7, 100])
@pytest.mark.parametrize("max_nms", [30, 30_000])
def test_nms_is_greedy_suppression_of_sorted_candidates(agnostic, classes, max_det, max_nms):
    y = torch.from_numpy(inputs.nms_input(3, b=1, nc=6, n=200))
    y[:, 4:] = (y[:, 4:] * 50).round() / 50  # many equal scores
    boxes, kept = xywh2xyxy(y[0, :4].T), []
    pairs = [(p, c) for p in range(200) for c in range(6) if y[0, 4 + c, p] > 0.1 and (classes is None or c in classes)]
    for p, c in sorted(pairs, key=lambda pair: -float(y[0, 4 + pair[1], pair[0]]))[:max_nms]:
        rivals = [q for q, k in kept if agnostic or k == c]
        if not rivals or ops.box_iou(boxes[[p]], boxes[rivals]).max() <= 0.6:
            kept.append((p, c))
    (rows,), (positions,) = non_max_suppression(
        y, 0.1, 0.6, classes, agnostic, multi_label=True, max_det=max_det, max_nms=max_nms, return_idxs=True
    )
    expected = kept[:max_det]
    assert list(zip(positions.tolist(), rows[:, 5].int().tolist(), strict=True)) == expected
    assert torch.equal(rows[:, :4], boxes[[p for p, _ in expected]])


def test_nms_filters_the_rows_of_a_network_without_nms():
    rows = torch.tensor([[0, 0, 9, 9, 0.9, 1], [0, 0, 9, 9, 0.8, 0], [0, 0, 9, 9, 0.7, 1], [0, 0, 9, 9, 0.2, 1.0]])
    for classes, max_det, expected in ((None, 300, [0, 1, 2]), ([1], 300, [0, 2]), (None, 2, [0, 1])):
        found, positions = non_max_suppression(rows[None], classes=classes, max_det=max_det, return_idxs=True)
        assert torch.equal(found[0], rows[expected]) and positions[0].tolist() == expected
    wide = torch.cat([rows, torch.ones(4, 2)], 1)  # with two more columns
    assert non_max_suppression(wide[None], end2end=True)[0].shape == (3, 8)


def test_nms_without_candidates_and_with_labels():
    y = torch.zeros(2, 7, 5)
    known = torch.tensor([[2, 50, 50, 20, 20.0]])
    none, one = non_max_suppression(y, labels=[known[:0], known])
    assert none.shape == (0, 6) and one.tolist() == [[40, 40, 60, 60, 1, 2]]
    assert non_max_suppression(y[..., :0])[0].shape == (0, 6)


def test_nms_stops_after_its_time(monkeypatch, caplog):
    clock = iter((0.0, 0.0, 9.0))
    monkeypatch.setattr("ultralytics.utils.ops.time.monotonic", lambda: next(clock))
    y = torch.from_numpy(inputs.nms_input(1, b=3))
    found, positions = non_max_suppression(y, return_idxs=True, nc=8)
    assert [len(rows) > 0 for rows in found] == [True, False, False] and found[1].shape == (0, 8)
    assert len(positions[2]) == 0 and "NMS took longer than 2.1 s: no detections in 2 images" in caplog.text


def test_nms_refuses_thresholds_in_percent():
    with pytest.raises(ValueError, match="iou=70: expected thresholds from 0 to 1"):
        non_max_suppression(torch.zeros(1, 6, 5), 0.25, 70)
