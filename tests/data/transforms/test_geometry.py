from dataclasses import replace

import cv2
import numpy as np
import pytest

from ultralytics.data.transforms.geometry import RandomFlip, RandomPerspective, Resize, clip_boxes
from ultralytics.data.transforms.sample import Sample

SIZE = 96


def sample(box=(30, 20, 60, 50), shape=(SIZE, SIZE), index=0) -> Sample:
    """Return a black image with one white box."""
    image = np.zeros((*shape, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return Sample(image, np.float32([box]), np.float32([index]), f"{index}.jpg", shape, index)


def white_area(image: np.ndarray) -> np.ndarray:
    """Return x1, y1, x2, y2 of the white pixels."""
    rows, columns = np.nonzero(image[..., 0] > 180)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize(
    "transform",
    [
        RandomFlip(1.0),
        RandomFlip(1.0, vertical=True),
        Resize(64),
        RandomPerspective(SIZE, translate=0.1),
        RandomPerspective(SIZE, scale=0.3),
        RandomPerspective(SIZE, degrees=45),
        RandomPerspective(SIZE, shear=20),
        RandomPerspective(SIZE, perspective=0.001),
        RandomPerspective(SIZE, degrees=10, translate=0.05, scale=0.2, shear=5, perspective=0.0005),
    ],
)
@pytest.mark.parametrize("shape", [(SIZE, SIZE), (72, SIZE)])
def test_boxes_follow_the_pixels(transform, shape):
    for seed in range(10):
        before = sample(shape=shape)
        after = transform(before, np.random.default_rng(seed))
        assert len(after.boxes) == 1
        np.testing.assert_allclose(after.boxes[0], white_area(after.image), atol=1.6)
        assert np.array_equal(before.image, sample(shape=shape).image)  # the input is not changed
        assert np.array_equal(before.boxes, sample(shape=shape).boxes)
    empty = replace(before, boxes=np.zeros((0, 4), np.float32), cls=np.zeros(0, np.float32))
    assert transform(empty, np.random.default_rng(0)).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((10, 10, 30, 30), True),
        ((-10, 10, 30, 30), True),
        ((-95, 10, 5, 30), False),  # 5 % visible
        ((10, 10, 11, 30), False),  # too thin
        ((0, 10, 500, 16), True),
        ((0, 10, 500, 12.5), False),  # longer than 100 : 1
        ((600, 10, 700, 30), False),
    ],
)
def test_clip_boxes(box, kept):
    cut, keep = clip_boxes(np.float32([box]), (100, 500))
    assert keep.tolist() == [kept]
    assert cut.min() >= 0 and cut[0, 2] <= 500 and cut[0, 3] <= 100


def test_crop_and_warp_agree():
    """Crop and resize on whole pixels differs from the general warp by up to one pixel."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8), (0, 0), 4)
    for zoom in (0.6, 1.0, 1.4):
        matrix = np.array([[zoom, 0, 3], [0, zoom, -5], [0, 0, 1.0]])
        turned = matrix + np.array([[0, 1e-9, 0], [0, 0, 0], [0, 0, 0]])
        place, boxes = RandomPerspective(SIZE), np.float32([[20, 20, 60, 60]])
        (cut, boxes_cut, _), (warped, boxes_warped, _) = (
            place.warp([(image, 0, 0)], image.shape[:2], boxes, m) for m in (matrix, turned)
        )
        inside = (slice(6, 50), slice(6, 50))
        assert np.abs(cut[inside].astype(int) - warped[inside]).mean() < 4
        np.testing.assert_allclose(boxes_cut, boxes_warped, atol=1.6)
