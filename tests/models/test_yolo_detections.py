import numpy as np
import pytest
import torch

from tests.golden import inputs
from ultralytics.models.yolo.detections import detections, letterbox_images, on_image
from ultralytics.nn.head_protocol import ANCHORS, END2END


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
    images = letterbox_images([np.zeros((*s, 3), np.uint8) for s in shapes], (320, 320), rect=rect, stride=32)
    assert {image.shape for image in images} == {(*expected, 3)}


def test_layouts_with_and_without_suppression():
    y = torch.from_numpy(inputs.nms_input(7, b=1))
    options = {"conf": 0.25, "classes": [1, 2], "max_det": 9}
    (kept,) = detections(y, ANCHORS, iou=0.5, **options)
    (more,) = detections(y, ANCHORS, iou=0.5, agnostic=True, multi_label=True, **options)
    assert kept.shape == more.shape == (9, 6) and set(kept[:, 5].tolist()) == {1, 2} and not torch.equal(kept, more)
    rows = torch.cat([kept, kept[:1]])[None]  # the last equals the first
    assert torch.equal(detections(rows, END2END, conf=0.25)[0], rows[0])


def test_boxes_return_to_the_image():
    images = letterbox_images([np.zeros((100, 200, 3), np.uint8)], (320, 320), rect=True, stride=32)
    rows = torch.tensor([[32.0, 16, 160, 96, 0.9, 3], [-9, -9, 999, 999, 0.8, 1]])  # scaled by 1.6
    moved = on_image(rows, images[0].shape[:2], (100, 200))
    torch.testing.assert_close(moved, torch.tensor([[20, 10, 100, 60, 0.9, 3], [0, 0, 200, 100, 0.8, 1]]))
    assert rows[1, 0] == -9  # the input is not changed
