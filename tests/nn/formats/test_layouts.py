"""Exports of dense heads: outputs per anchor, of a one-to-one branch, and with NMS within the graph."""

import numpy as np
import pytest
import torch

from tests.small_detector import YOLO_CONTENT, write_weights
from ultralytics import RTDETR, YOLO
from ultralytics.data.synthetic import draw_image, generate_shapes
from ultralytics.engine.exporter import BOUNDS, Difference, compare
from ultralytics.models import Model
from ultralytics.nn.formats.graph_nms import Suppression
from ultralytics.nn.head_protocol import ANCHORS, END2END
from ultralytics.utils.errors import OptionError
from ultralytics.utils.ops import non_max_suppression

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "safetensors": "safetensors"}
PICTURE = draw_image(np.random.default_rng(5), 90)[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights with one branch and with two."""
    folder, contents = tmp_path_factory.mktemp("yolo"), (YOLO_CONTENT, {**YOLO_CONTENT, "end2end": True, "reg_max": 1})
    return [write_weights(folder / str(n), content) for n, content in enumerate(contents)]


def boxes(model, **options):
    options = {"conf": 0.3, "imgsz": [64, 96], "rect": False, "verbose": False, **options}
    return YOLO(model, verbose=False).predict(PICTURE, **options)[0].boxes.data


@pytest.mark.parametrize("end2end", [False, True])
@pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript", "safetensors"])
def test_predictions_of_an_export_are_those_of_the_weights(kind, end2end, weights):
    pytest.importorskip(PACKAGES.get(kind, "torch"))
    file = YOLO(weights[end2end]).export(format=kind, imgsz=[64, 96], batch=2)
    model = RTDETR(file)
    assert type(model) is type(Model(file)) is YOLO and model.model.layout == (END2END if end2end else ANCHORS)
    expected = boxes(weights[end2end])
    assert len(expected) > 3
    torch.testing.assert_close(boxes(file), expected, atol=1e-2, rtol=0)
    if model.is_exported:
        metadata = model.model.metadata
        assert (metadata.head, metadata.resize, metadata.batch, metadata.stride) == ("Detect", "letterbox", 2, 32)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("options", [{}, {"dynamic": True}, {"half": True}], ids=str)
def test_nms_in_the_graph_gives_the_detections_of_nms_outside(kind, options, weights):
    pytest.importorskip(PACKAGES[kind])
    file = YOLO(weights[0]).export(format=kind, imgsz=[64, 96], nms=True, iou=0.5, max_det=40, **options)
    backend = YOLO(file).model
    assert backend.layout == END2END and backend.metadata.nms
    expected, found = boxes(weights[0], iou=0.5), boxes(file)
    assert 3 < len(expected) < len(boxes(weights[0], iou=1.0))
    torch.testing.assert_close(found, expected, atol=1 if "half" in options else 1e-2, rtol=0)
    for batch, height, width in ((1, 64, 64), (3, 96, 64)) if "dynamic" in options else ():
        assert backend(torch.rand(batch, 3, height, width))[0].shape == (batch, 40, 6)


@pytest.mark.parametrize("agnostic", [False, True])
def test_suppression_keeps_the_boxes_of_non_max_suppression(agnostic):
    y = torch.rand(2, 4 + 3, 200, generator=torch.Generator().manual_seed(0))
    y[:, :4] *= torch.tensor([100, 100, 40, 40])[:, None]
    y[1, 4:] *= 0.3  # fewer detections than rows
    found = Suppression(conf=0.28, iou=0.45, max_det=50, agnostic=agnostic)(y)
    expected = non_max_suppression(y, 0.28, 0.45, agnostic=agnostic, max_det=50)
    assert [len(rows) for rows in expected] == (found[..., 4] > 0).sum(1).tolist()
    for rows, table in zip(expected, found, strict=True):
        torch.testing.assert_close(table[: len(rows)], rows, atol=1e-4, rtol=0)
        assert not table[len(rows) :].any()


def test_anchors_are_compared_position_by_position():
    expected = torch.rand(2, 7, 30)
    expected[:, :4] *= 64
    assert compare(expected, expected.clone(), "float32", ANCHORS, (64, 64)) == Difference(0.0, 0.0, 60, 0)
    found = expected.roll(1, 2)
    assert not compare(expected, found, "float32", ANCHORS, (64, 64)).within(BOUNDS["float32"])
    found = expected.clone()
    found[0, 0, 0] += 6.4
    assert compare(expected, found, "float32", ANCHORS, (64, 64)).boxes == pytest.approx(0.1, abs=1e-5)


def test_rows_with_a_class_are_matched_and_empty_ones_not_counted():
    expected = torch.zeros(1, 20, 6)
    expected[0, :8, :4], expected[0, :8, 4] = torch.rand(8, 4) * 64, torch.linspace(0.9, 0.2, 8)
    found = expected.clone()
    found[0, :8] = expected[0, torch.randperm(8)]
    assert compare(expected, found, "float32", END2END, (64, 64)) == Difference(0.0, 0.0, 8, 0)
    found[0, :3, 5] = 2  # other classes
    assert not compare(expected, found, "float32", END2END, (64, 64)).within(BOUNDS["float32"])
    nothing = torch.zeros(1, 20, 6)
    assert compare(nothing, nothing, "float32", END2END, (64, 64)) == Difference(0.0, 0.0, 0, 0)


@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (0, {"format": "torchscript", "nms": True}, "nms is not supported by format=torchscript; supported: onnx, op"),
        (1, {"format": "onnx", "nms": True, "end2end": True}, "the output of Detect needs no NMS; export its other"),
        (1, {"format": "safetensors", "end2end": False}, "end2end: format=safetensors keeps all weights"),
    ],
)
def test_options_that_mean_nothing_are_refused(number, options, message, weights):
    with pytest.raises(OptionError, match=message):
        YOLO(weights[number]).export(imgsz=64, **options)


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_dynamic_export_at_a_small_size_selects_from_all_positions(kind, weights):
    pytest.importorskip(PACKAGES.get(kind, "torch"))
    backend = YOLO(YOLO(weights[1]).export(format=kind, imgsz=32, dynamic=True)).model
    for side, found in ((32, 21), (64, 84), (160, 300)):
        assert backend(torch.rand(2, 3, side, side))[0].shape == (2, found, 6)


def test_a_fixed_export_predicts_at_its_own_size(weights, caplog):
    model = YOLO(YOLO(weights[0]).export(format="torchscript", imgsz=64))
    (result,) = model.predict(PICTURE, imgsz=96, conf=0.0)
    assert model.predictor.imgsz == [64, 64] and len(result) > 0
    assert "imgsz=96" in caplog.text and "runs at [64, 64]" in caplog.text


def test_int8_keeps_the_head_in_float(weights, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    generate_shapes(tmp_path / "shapes", images_train=1, images_val=4, size=64)
    data = {"path": str(tmp_path / "shapes"), "train": "images/train", "val": "images/val", "names": list("abcdef")}
    file = YOLO(weights[0]).export(format="onnx", imgsz=64, int8=True, data=data)
    nodes = [node for node in onnx.load(file).graph.node if node.op_type == "DequantizeLinear"]
    assert len(nodes) > 10 and not any("/model.9/" in node.name for node in nodes)
