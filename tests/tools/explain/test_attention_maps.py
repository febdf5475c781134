import numpy as np
import pytest
import torch

from tests.small_detector import YOLO_CONTENT, write_weights
from ultralytics.data.images import read_image
from ultralytics.data.streams import Frame
from ultralytics.engine.results import Results
from ultralytics.nn.head_protocol import LETTERBOX, STRETCH
from ultralytics.nn.modules.deformable import MSDeformAttn
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.tools.explain import attention_maps
from ultralytics.tools.explain.attention_maps import (
    LEVEL_COLORS,
    draw_attention,
    draw_points,
    record_calls,
    sampling_points,
    self_attention,
)  # fmt: skip
from ultralytics.tools.explain.heatmap import InputView, open_predictor


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Weights of a model with AIFI and two decoder layers, whose scores differ."""
    return write_weights(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize(("resize", "box"), [(STRETCH, (0.5, 0.5, 0.2, 0.2)), (LETTERBOX, (0.5, 0.5, 0.2, 0.1))])
def test_sampling_points_in_pixels(resize, box):
    """A new layer samples at 1/4 and 1/2 of the box from its center; here it has 40 x 20 of 200 x 100 pixels."""
    attention = MSDeformAttn(d_model=8, n_levels=2, n_heads=4, n_points=2)
    call = {"query": torch.rand(1, 1, 8), "refer_bbox": torch.tensor([[box]])}
    points, weights = sampling_points(attention, call, InputView((64, 64), (100, 200), resize))
    assert points.shape == (1, 2, 4, 2, 2) and weights.shape == (1, 2, 4, 2)
    for point, reach in enumerate(([10, 5], [20, 10])):
        directions = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])  # of the heads
        for level in range(2):
            np.testing.assert_allclose(points[0, level, :, point], [100, 50] + directions * reach, atol=1e-4)
    np.testing.assert_allclose(weights, 1 / 4)


def test_weights_of_a_query_and_head_sum_to_one(small):
    predictor = open_predictor(str(small), None, trust=False, imgsz=64, device="cpu")
    calls, image = record_calls(predictor.model, "sampling"), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        output = predictor.model(image)
    attention, call = calls[1]
    points, weights = sampling_points(attention, call, InputView((64, 64), (64, 64), STRETCH))
    assert points.shape == (12, 3, 4, 4, 2) and list(calls) == [0, 1]
    np.testing.assert_allclose(weights.sum((1, 3)), 1, rtol=1e-6)
    assert attention is predictor.model.model[-1].decoder.layers[1].cross_attn
    with torch.no_grad():  # the hooks change nothing
        expected = open_predictor(str(small), None, trust=False, imgsz=64, device="cpu").model(image)
    assert torch.equal(output[0], expected[0])


def test_attention_of_aifi_follows_the_formula():
    torch.manual_seed(0)
    layer, x = AIFI(16, 32, 4).eval(), torch.rand(1, 16, 3, 5)
    holder = torch.nn.Module()
    holder.model = torch.nn.Sequential(layer)
    holder.forward, layer.i = holder.model.forward, 0
    with torch.no_grad():
        calls = record_calls(holder, "aifi")
        holder(x)
        attention = layer.ma
        weights = self_attention(*calls[0])
        tokens = x.flatten(2).mT + layer.build_2d_sincos_position_embedding(5, 3, 16)
        q, k, _ = torch.nn.functional.linear(tokens, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
        q, k = (y.view(1, 15, 4, 4).transpose(1, 2) for y in (q, k))  # 4 heads of 4 channels
        expected = (q @ k.mT / 2).softmax(-1).mean(1)[0]
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("resize", [STRETCH, LETTERBOX])
def test_the_map_of_a_position_is_drawn_where_it_is(resize, monkeypatch):
    """The position at the image's (30, 20) attends to that at (150, 75), in a map of 8 x 8 and an input of 64 x 64."""
    view = InputView((64, 64), (100, 200), resize)
    column, row, token = (6, 6, 1 * 8 + 1) if resize == STRETCH else (6, 5, 2 * 8 + 1)
    weights = np.full((64, 64), 0.5 / 63)
    weights[token, row * 8 + column] = 0.5
    monkeypatch.setattr(attention_maps, "self_attention", lambda attention, call: weights)
    found = Results(np.full((100, 200, 3), 100, np.uint8), "a.jpg", {})
    picture = draw_attention(found, np.array([30, 20]), None, {}, view).astype(int)
    red = picture[..., 2] - picture[..., 0]
    y, x = np.unravel_index(red.argmax(), red.shape)
    assert abs(x - 150) <= 13 and abs(y - 75) <= 13  # half a cell
    assert picture[20 - 3 : 20 + 4, 30 - 6 : 30 + 7].max() == 255  # mark of the position


def test_points_are_drawn_by_level_and_weight():
    found = Results(np.zeros((400, 400, 3), np.uint8), "a.jpg", {0: "cat"}, np.array([[20.0, 20, 180, 80, 0.9, 0]]))
    points = np.array([[[[100, 200]]], [[[300, 200]]]])
    picture = draw_points(found, points, np.array([[[0.75]], [[0.25]]]), [8, 16]).astype(int)
    areas = []
    for level, color in enumerate(LEVEL_COLORS[:2]):
        x, y = points[level, 0, 0]
        around = picture[y - 20 : y + 20, x - 20 : x + 20]
        share = around[20, 20] / np.maximum(color, 1)  # opacity
        assert np.ptp(share[np.array(color) > 0]) < 0.05
        areas.append((around.max(-1) > 60).sum())
    assert areas[0] > 2 * areas[1] > 0
    assert (picture[-30:, :60] == LEVEL_COLORS[0]).all(-1).any()  # the legend is far from the box


@pytest.mark.parametrize("words", [(), ("kind=aifi",), ("layer=0",), ("kind=aifi", "layer=5")])
def test_a_picture_for_each_detection(yolo, small, images, tmp_path, words):
    text = yolo(
        "attention", f"model={small}", f"source={images}", "imgsz=64", "conf=0.001", "max_det=2", "device=cpu", *words
    )
    assert "3 of 3 images drawn" in text
    for file in images.iterdir():
        drawn = [read_image(tmp_path / f"runs/attention/small/{file.stem}_{number}.jpg") for number in (1, 2)]
        times = -(-640 // max(read_image(file).shape))  # small images are enlarged
        assert drawn[0].shape[:2] == tuple(times * side for side in read_image(file).shape[:2])
        assert (drawn[0] != drawn[1]).any()


def test_queries_are_those_of_the_detections(small, monkeypatch):
    given = {"conf": 0.05, "classes": [0, 2], "max_det": 4, "device": "cpu"}
    predictor = open_predictor(str(small), None, trust=False, imgsz=64, **given)
    numbers = np.arange(12.0)
    monkeypatch.setattr(attention_maps, "sampling_points", lambda *_: (numbers, numbers))
    monkeypatch.setattr(attention_maps, "draw_points", lambda found, query, *_: (found, int(query)))
    frame = Frame(np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8), "a.jpg", "a")
    predictor.frames, images = [frame], predictor.preprocess([frame.image])
    calls = record_calls(predictor.model, "sampling")
    drawn = attention_maps._draw_frame(predictor, calls, None, "sampling", None, frame, images)
    boxes = predictor.model(images)[0][0, :, :4]
    assert 2 <= len(drawn) <= 4
    for found, query in drawn:
        torch.testing.assert_close(found.boxes.xywhn[0], boxes[query])


def test_a_point_of_the_image(yolo, refused, small, images, tmp_path):
    words = ("attention", f"model={small}", f"source={images}", "imgsz=64", "kind=aifi", "device=cpu")
    text = yolo(*words, "point=20,30", "conf=0.9")
    assert "3 of 3 images drawn" in text and len(list((tmp_path / "runs/attention/small").iterdir())) == 3
    assert "point=[2000.0, 30.0]: not in image 1/3" in refused(*words, "point=2000,30")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("point=1,2",), "point=[1.0, 2.0], kind=sampling: expected x,y"),
        (("kind=aifi", "point=1,2,3"), "point=[1.0, 2.0, 3.0], kind=aifi: expected x,y"),
        (("layer=2",), "layer=2: no such decoder layer; the model has 0, 1"),
        (("kind=aifi", "layer=4"), "layer=4: no such AIFI row; the model has 5"),
        (("conf=1",), "none of 3 images has a detection above conf=1"),
    ],
)
def test_errors(refused, small, images, words, message):
    assert message in refused("attention", f"model={small}", f"source={images}", "imgsz=64", "device=cpu", *words)


def test_models_without_such_attention(refused, weights, images, tmp_path):
    dense = write_weights(tmp_path / "dense", YOLO_CONTENT)
    for kind, lacks in (("sampling", "decoder with deformable attention"), ("aifi", "AIFI row")):
        text = refused("attention", f"model={dense}", f"source={images}", f"kind={kind}")
        assert f"kind={kind}: the model has no {lacks}; yolo heatmap draws every model" in text
    text = refused("attention", f"model={weights}", f"source={images}", "kind=aifi")
    assert "the model has no AIFI row; kind=sampling has what it needs, and yolo heatmap" in text
