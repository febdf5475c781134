from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.golden import inputs
from ultralytics.cfg import get_cfg
from ultralytics.models.yolo.detector import FAMILY, DetectionPredictor, on_image, suppressed
from ultralytics.nn.head_protocol import ANCHORS, END2END


def letterboxed(shapes, rect=True):
    """Return the shapes of images as the network gets them."""
    own = SimpleNamespace(args=SimpleNamespace(rect=rect), model=None, imgsz=(320, 320), stride=32)
    images = DetectionPredictor.pre_transform(own, [np.zeros((*shape, 3), np.uint8) for shape in shapes])
    return {image.shape[:2] for image in images}


@pytest.mark.parametrize(
    ("shapes", "rect", "expected"),
    [
        ([(480, 640)], True, (256, 320)),
        ([(480, 640)] * 2, True, (256, 320)),
        ([(480, 640), (640, 480)], True, (320, 320)),
        ([(480, 640)], False, (320, 320)),
    ],
)
def test_rectangles_for_images_of_one_shape(shapes, rect, expected):
    assert letterboxed(shapes, rect) == {expected}


def test_layouts_with_and_without_suppression():
    y = torch.from_numpy(inputs.nms_input(7, b=1))
    options = get_cfg(overrides={"classes": [1, 2], "max_det": 9, "iou": 0.5}, family=FAMILY)
    (kept,), (more,) = (suppressed(y, ANCHORS, 0.25, options, agnostic=on, multi_label=on) for on in (False, True))
    assert kept.shape == more.shape == (9, 6) and set(kept[:, 5].tolist()) == {1, 2} and not torch.equal(kept, more)
    rows = torch.cat([kept, kept[:1]])[None]  # the last equals the first
    options = get_cfg(family=FAMILY)
    assert torch.equal(suppressed(rows, END2END, 0.25, options, agnostic=False, multi_label=False)[0], rows[0])


def test_boxes_return_to_the_image():
    rows = torch.tensor([[32.0, 16, 160, 96, 0.9, 3], [-9, -9, 999, 999, 0.8, 1]])  # scaled by 1.6
    moved = on_image(rows, *letterboxed([(100, 200)]), (100, 200))
    torch.testing.assert_close(moved, torch.tensor([[20, 10, 100, 60, 0.9, 3], [0, 0, 200, 100, 0.8, 1]]))
    assert rows[1, 0] == -9  # the input is not changed
