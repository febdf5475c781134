import json
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.golden import inputs
from ultralytics.data.transforms.geometry import LetterBox, RandomFlip, RandomPerspective, Resize, clip_boxes
from ultralytics.data.transforms.sample import Sample
from ultralytics.utils.ops import scale_boxes

SIZE = 96
LETTERBOX = json.loads((Path(__file__).parents[2] / "golden/letterbox_8.4.190.json").read_text())


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
        RandomFlip(1.0, "vertical"),
        Resize(64),
        LetterBox((64, 80)),
        LetterBox(128, scaleup=False),
        LetterBox((70, 90), auto=True, center=False),
        RandomPerspective(translate=0.1, scale=0.0, size=SIZE),
        RandomPerspective(scale=0.3, translate=0.0, size=SIZE),
        RandomPerspective(degrees=45, translate=0.0, scale=0.0, size=SIZE),
        RandomPerspective(shear=20, translate=0.0, scale=0.0, size=SIZE),
        RandomPerspective(perspective=0.001, translate=0.0, scale=0.0, size=SIZE),
        RandomPerspective(degrees=10, translate=0.05, scale=0.2, shear=5, perspective=0.0005, size=SIZE),
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


@pytest.mark.parametrize("option", range(len(LETTERBOX["options"])))
def test_letterbox_agrees_with_the_reference(option):
    for arguments, outputs in zip(LETTERBOX["images"], LETTERBOX["outputs"], strict=True):
        after = LetterBox(**LETTERBOX["options"][option])(image=inputs.gradient(*arguments))
        assert [*after.shape[:2], zlib.crc32(after.tobytes())] == outputs[option]


@pytest.mark.parametrize(
    "transform",
    [LetterBox(64), LetterBox((90, 160)), LetterBox(300, scaleup=False), LetterBox(300, auto=True), Resize(64)],
)
@pytest.mark.parametrize("shape", [(48, 96), (96, 53)])
def test_ratio_and_padding_return_boxes_to_the_original(transform, shape):
    before = replace(sample((10, 12, 40, 47), shape), ratio=(0.5, 0.5), ori_shape=(2 * shape[0], 2 * shape[1]))
    after = transform(transform(before, None), None)  # twice: ratios and padding add up
    boxes = scale_boxes(after.shape, after.boxes, after.ori_shape, (after.ratio, after.pad))
    np.testing.assert_allclose(boxes, 2 * before.boxes, atol=1e-3)


def test_letterbox_of_a_line():
    assert LetterBox(64)(image=np.zeros((500, 1, 3), np.uint8)).shape == (64, 64, 3)


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
        place, boxes = RandomPerspective(translate=0.0, scale=0.0, size=SIZE), np.float32([[20, 20, 60, 60]])
        (cut, boxes_cut, _), (warped, boxes_warped, _) = (
            place.warp([(image, 0, 0)], image.shape[:2], boxes, m) for m in (matrix, turned)
        )
        inside = (slice(6, 50), slice(6, 50))
        assert np.abs(cut[inside].astype(int) - warped[inside]).mean() < 4
        np.testing.assert_allclose(boxes_cut, boxes_warped, atol=1.6)


def test_letterbox_multiplies_the_ratio_of_published_labels():
    for changes, ratio, pad in (({}, (0.5, 0.25), (0, 160)), ({"scale_fill": True}, (1.0, 0.25), (0, 0))):
        labels = {"img": np.zeros((320, 640, 3), np.uint8), "ratio_pad": (0.5, 0.25)}
        assert LetterBox((640, 640), **changes)(labels)["ratio_pad"] == (ratio, pad)
