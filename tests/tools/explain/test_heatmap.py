import copy
import sys

import cv2
import numpy as np
import pytest
import torch

from ultralytics.data.images import read_image
from ultralytics.nn.head_protocol import LETTERBOX, STRETCH
from ultralytics.tools.common import load_network
from ultralytics.tools.explain.heatmap import METHODS, InputView, TappedDetector, activation_map, map_numbers, overlay
from ultralytics.utils.errors import OptionError


@pytest.fixture(scope="module")
def network(weights):
    return load_network(str(weights)).eval()


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def test_taps_do_not_change_the_output(network, image):
    with torch.no_grad():
        assert torch.equal(TappedDetector(copy.deepcopy(network), [2, 3, 5])(image), network(image)[0])


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize("boxes", [False, True])
def test_maps_follow_the_formulas(network, image, number, boxes):
    """Grad-CAM (arXiv:1610.02391): channels weighted with their mean gradients; HiResCAM: position by position."""
    pytest.importorskip("pytorch_grad_cam")
    pairs = torch.tensor([[0, 1], [3, 2]])
    kept = {}

    def keep(layer, _inputs, output):
        kept["map"] = output[-3] if layer.num_slots > 1 else output  # of the backbone map 2, the third from the end
        kept["map"].retain_grad()

    hook = network.model[0 if number == 2 else 1].register_forward_hook(keep)
    y = network(image.clone().requires_grad_())[0][0]
    hook.remove()
    (y[0, 5] + y[3, 6] + (y[[0, 3], :4].sum() if boxes else 0)).backward()
    values, gradients = kept["map"][0].detach(), kept["map"].grad[0]
    expected = {
        "GradCAM": (gradients.mean((1, 2), keepdim=True) * values).sum(0),
        "HiResCAM": (gradients * values).sum(0),
    }
    for method, raw in expected.items():
        want = normalize(cv2.resize(normalize(raw.relu().numpy()), (64, 64)))
        got = activation_map(TappedDetector(copy.deepcopy(network), [number]).eval(), image, pairs, method, boxes=boxes)
        assert got.shape == (64, 64)
        np.testing.assert_allclose(got, want, atol=2e-3, err_msg=method)


def normalize(values: np.ndarray) -> np.ndarray:
    values = values - values.min()
    return values / (values.max() + 1e-7)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"GradCAMPlusPlus"}))
def test_every_method_gives_a_map_of_several_layers(network, image, method):
    pytest.importorskip("pytorch_grad_cam")
    tapped = TappedDetector(copy.deepcopy(network), [2, 3, 5]).eval()
    heat = activation_map(tapped, image, torch.tensor([[0, 1]]), method)
    assert heat.shape == (64, 64) and np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1
    assert not any(tap._forward_hooks for tap in tapped.taps.values())


def test_layers_by_number_and_by_name(network):
    assert map_numbers(network) == [2, 3, 5]
    assert map_numbers(network, ["top", " 4", "5"]) == [5, 4]
    for word in ("tpo", "6", "1"):  # 6 is the head, nothing reads 1
        with pytest.raises(OptionError, match=f"no later layer reads '{word}'.*expected one of 2, 3, 4, 5, or .*top"):
            map_numbers(network, [word])


def test_colors_follow_the_map():
    pytest.importorskip("pytorch_grad_cam")
    heat = np.zeros((2, 2), np.float32)
    heat[0, 1] = 1
    picture = overlay(np.full((40, 60, 3), 100, np.uint8), heat)
    assert picture.shape == (40, 60, 3) and picture.dtype == np.uint8
    blue, _, red = picture[2, 57].astype(int)
    assert red > 100 > blue
    blue, _, red = picture[37, 2].astype(int)
    assert blue > 100 > red


def test_a_folder_of_images(yolo, refused, weights, images, tmp_path):
    pytest.importorskip("pytorch_grad_cam")
    words = ("heatmap", f"model={weights}", f"source={images}", "imgsz=64", "device=cpu")
    text = yolo(*words, "conf=0.001", "method=layercam", "layers=top,3", "target=all")
    assert "3 of 3 images drawn by LayerCAM, of the maps 5, 3" in text
    for file in images.iterdir():
        assert max(read_image(tmp_path / "runs/heatmap/best" / file.name).shape) >= 640 > max(read_image(file).shape)
    text = refused(*words, "conf=0.9")
    assert "none of 3 images has a detection above conf=0.9; lower conf" in text
    assert "best score 0.0" in text and not (tmp_path / "runs/heatmap/best2").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model=no.pt", "source=a.jpg"), "no.pt"),
        (("model=WEIGHTS",), "source= is missing"),
        (("model=WEIGHTS", "source=none.jpg"), "none.jpg"),
        (("model=WEIGHTS", "source=IMAGES", "method=GradCAM+"), "did you mean 'GradCAM++'?"),
        (("model=WEIGHTS", "source=IMAGES", "layers=77"), "no later layer reads '77'"),
        (("model=WEIGHTS", "source=IMAGES", "target=box"), "target: expected one of 'scores', 'all'"),
        (("model=WEIGHTS", "source=IMAGES", "classes=9"), "classes=[9]: the model has classes 0 to 5"),
    ],
)
def test_errors(refused, weights, images, words, message):
    pytest.importorskip("pytorch_grad_cam")
    text = refused("heatmap", *(w.replace("WEIGHTS", str(weights)).replace("IMAGES", str(images)) for w in words))
    assert message in text


def test_a_missing_package_is_named(refused, weights, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    assert 'not installed: pip install "grad-cam"' in refused("heatmap", f"model={weights}", f"source={images}")


@pytest.mark.parametrize(
    ("resize", "on_input", "on_image"),
    [
        (STRETCH, [15 / 60, 45 / 90], [15, 45]),
        (LETTERBOX, [10 / 64, 0], [0, 0]),  # 43 of 64 columns show the image, from 10 on
        (LETTERBOX, [53 / 64, 1], [60, 90]),
        (LETTERBOX, [31.5 / 64, 0.5], [30, 45]),
    ],
)
def test_points_of_the_input_on_the_image(resize, on_input, on_image):
    points = InputView((64, 64), (90, 60), resize).to_image(np.array([on_input, on_input]))
    np.testing.assert_allclose(points, [on_image, on_image], atol=1e-12)


def test_the_padding_of_a_letterboxed_input_is_not_part_of_the_map():
    heat = np.zeros((64, 64), np.float32)
    heat[16:48] = 1  # the image, of 30 x 60 pixels
    cropped = InputView((64, 64), (30, 60), LETTERBOX).crop(heat)
    assert cropped.shape == (32, 64) and cropped.all()
    assert InputView((64, 64), (30, 60), STRETCH).crop(heat).shape == (64, 64)
