"""Zoom-out, IoU crop and box cleanup against torchvision's transforms of the same names."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from ultralytics.data.transforms.crop import RandomIoUCrop, RandomZoomOut, SanitizeBoundingBoxes, center_inside
from ultralytics.data.transforms.sample import Sample
from ultralytics.utils.ops import bbox_ioa

pytest.importorskip("torchvision", minversion="0.21", reason="before it parameters were not public")

SHAPE = (90, 120)
BOXES = np.float32([[10, 10, 50, 40], [60, 20, 110, 80], [0, 60, 12, 90]])
QUANTILES = (0.02, 0.25, 0.5, 0.75, 0.98)


def sample(boxes=BOXES, shape=SHAPE) -> Sample:
    """Pixel (y, x) is (x, y, 200): pixels identify the position of a crop."""
    image = np.full((*shape, 3), 200, np.uint8)
    image[..., 0], image[..., 1] = np.arange(shape[1])[None], np.arange(shape[0])[:, None]
    return Sample(image, np.float32(boxes).reshape(-1, 4), np.arange(len(boxes), dtype=np.float32), "a.jpg", shape, 0)


def as_tv(given: Sample) -> dict:
    image = tv_tensors.Image(torch.from_numpy(given.image.transpose(2, 0, 1).copy()))
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(given.boxes), format="XYXY", canvas_size=given.shape)
    return {"image": image, "boxes": boxes, "labels": torch.from_numpy(given.cls)}


@pytest.mark.parametrize("max_side", [None, 100])
def test_zoom_out_moves_boxes_with_the_picture(max_side):
    given = sample(np.float32([[20, 30, 80, 70]]))
    given.image[:] = 90
    given.image[30:70, 20:80] = 255
    for seed in range(30):
        after = RandomZoomOut(p=1.0, max_side=max_side)(given, np.random.default_rng(seed))
        rows, columns = np.nonzero(after.image[..., 0] > 180)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(after.boxes[0], box, atol=0.0 if max_side is None else 1.5)
        assert after.image.dtype == np.uint8 and (max_side is None or max(after.shape) <= max_side + 4)
    assert sum(RandomZoomOut(p=0.5)(given, np.random.default_rng(s)) is given for s in range(400)) in range(150, 250)


def test_iou_crop_keeps_what_torchvision_keeps():
    """The same crop applied there gives the same boxes and classes."""
    given, changed = sample(), 0
    for seed in range(200):
        after = RandomIoUCrop(p=1.0)(given, np.random.default_rng(seed))
        if after is given:
            continue
        changed += 1
        (left, top), (height, width) = after.image[0, 0, :2].tolist(), after.shape
        assert 0.5 < width / height < 2 and width >= int(0.3 * SHAPE[1]) and height >= int(0.3 * SHAPE[0])
        theirs = as_tv(given)
        inside = torch.from_numpy(center_inside((left, top, left + width, top + height), BOXES))
        params = {"top": top, "left": left, "height": height, "width": width, "is_within_crop_area": inside}
        boxes = v2.RandomIoUCrop().transform(theirs["boxes"], params)
        wanted = v2.SanitizeBoundingBoxes()({"boxes": boxes, "labels": theirs["labels"]})
        np.testing.assert_allclose(after.boxes, wanted["boxes"].numpy(), atol=1e-4)
        assert np.array_equal(after.cls, wanted["labels"].numpy()) and len(after.cls)
    assert 150 < changed < 195  # one overlap in seven leaves the image as it is


def test_iou_crop_has_the_distribution_of_torchvision():
    given, rng, theirs = sample(), np.random.default_rng(0), v2.RandomIoUCrop()
    torch.manual_seed(0)
    inputs = [as_tv(given)["image"], as_tv(given)["boxes"]]
    ours = [box for _ in range(600) if (box := RandomIoUCrop().draw(SHAPE, BOXES, rng)) is not None]
    drawn = [params for _ in range(600) if (params := theirs.make_params(inputs))]
    wanted = [(p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]) for p in drawn]
    assert abs(len(ours) - len(wanted)) < 60
    gap = np.abs(np.quantile(ours, QUANTILES, axis=0) - np.quantile(wanted, QUANTILES, axis=0))
    assert (gap / (120, 90, 120, 90)).max() < 0.1
    a, b = (bbox_ioa(np.array(crops), BOXES, iou=True).max(1).mean() for crops in (ours, wanted))
    assert abs(a - b) < 0.05


def test_iou_crop_without_boxes_and_of_a_thin_image():
    empty = sample(np.zeros((0, 4)))
    assert RandomIoUCrop(p=1.0)(empty, np.random.default_rng(0)) is empty
    thin = sample([[0, 0, 1, 200]], (250, 1))  # no crop of it is less than twice as high as wide
    assert RandomIoUCrop(p=1.0)(thin, np.random.default_rng(0)) is thin


@pytest.mark.parametrize(
    "box", [(-5, -5, 20, 20), (10, 10, 10.5, 30), (10, 10, 30, 10.9), (5, 5, 6, 6), (130, 10, 140, 20)]
)
def test_sanitize_drops_what_torchvision_drops(box):
    given = sample([box, (10, 10, 50, 40)])
    tv = as_tv(given)
    clamped = v2.ClampBoundingBoxes()(tv["boxes"])
    wanted = v2.SanitizeBoundingBoxes(min_size=1)({"boxes": clamped, "labels": tv["labels"]})
    after = SanitizeBoundingBoxes(min_side=1)(given, np.random.default_rng(0))
    assert np.array_equal(after.cls, wanted["labels"].numpy())
    np.testing.assert_array_equal(after.boxes, wanted["boxes"].numpy())
