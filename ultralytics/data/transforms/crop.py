"""Zoom-out, IoU crop and box cleanup as in SSD (Liu et al., https://arxiv.org/abs/1512.02325).

Limits and order of decisions are those of torchvision's transforms of these names, as in the official RT-DETR
configuration.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ultralytics.data.transforms.sample import Sample, takes_labels
from ultralytics.utils.ops import bbox_ioa

MAX_ZOOM = 4.0
MIN_IOUS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # least IoU of some box with the crop; 1 leaves the image unchanged
MIN_CROP = 0.3  # fraction of a side
MAX_ASPECT = 2.0  # width / height of a crop is between 1 / MAX_ASPECT and MAX_ASPECT
TRIALS = 40  # crops tried for one minimum IoU before another one is drawn

Crop = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class RandomZoomOut:
    """With probability p, place the image at random on a black canvas of 1 to 4 times its sides.

    `max_side` limits the canvas in pixels, which saves memory and time if the result is resized anyway.
    """

    p: float = 0.5
    max_side: int | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        use, zoom, place = rng.random() < self.p, rng.uniform(1, MAX_ZOOM), rng.random(2)
        if not use:
            return sample
        shrink = min(1.0, self.max_side / (max(sample.shape) * zoom)) if self.max_side else 1.0
        image = sample.image
        if shrink < 1:
            height, width = (max(1, round(side * shrink)) for side in sample.shape)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        height, width = image.shape[:2]
        canvas = np.zeros((int(height * zoom), int(width * zoom), 3), np.uint8)
        left, top = int((canvas.shape[1] - width) * place[0]), int((canvas.shape[0] - height) * place[1])
        canvas[top : top + height, left : left + width] = image
        scale = (width / sample.shape[1], height / sample.shape[0])
        return replace(sample, image=canvas, boxes=sample.boxes * np.float32(scale * 2) + np.float32((left, top) * 2))


@dataclass(frozen=True)
class RandomIoUCrop:
    """With probability p, crop a part of 0.3 to 1 of each side that contains the center of a box.

    The minimum IoU with a box is drawn first. Boxes with their center outside are dropped, the others are clipped. An
    image without boxes is returned unchanged.
    """

    p: float = 0.8

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p or not len(sample.boxes):
            return sample
        crop = self.draw(sample.shape, sample.boxes, rng)
        if crop is None:
            return sample
        left, top, right, bottom = crop
        keep = center_inside(crop, sample.boxes)
        boxes = np.clip(sample.boxes[keep], (left, top) * 2, (right, bottom) * 2) - (left, top) * 2
        image = np.ascontiguousarray(sample.image[top:bottom, left:right])
        return replace(sample, image=image, boxes=boxes.astype(np.float32), cls=sample.cls[keep])

    def draw(self, shape: tuple[int, int], boxes: np.ndarray, rng: np.random.Generator) -> Crop | None:
        """Return a random crop of an image of `shape` (h, w), or None to leave it unchanged."""
        height, width = shape
        while True:
            min_iou = MIN_IOUS[rng.integers(len(MIN_IOUS))]
            if min_iou >= 1:
                return None
            for across, down, x, y in rng.random((TRIALS, 4)):
                new_width = int(width * (MIN_CROP + (1 - MIN_CROP) * across))
                new_height = int(height * (MIN_CROP + (1 - MIN_CROP) * down))
                if min(new_width, new_height) < 1 or not 1 / MAX_ASPECT < new_width / new_height < MAX_ASPECT:
                    continue
                left, top = int((width - new_width) * x), int((height - new_height) * y)
                crop = (left, top, left + new_width, top + new_height)
                inside = center_inside(crop, boxes)
                if inside.any() and bbox_ioa(np.array([crop]), boxes[inside], iou=True).max() >= min_iou:
                    return crop


@dataclass(frozen=True)
class SanitizeBoundingBoxes:
    """Clip boxes to the image and drop those with a side below `min_side` pixels."""

    min_side: float = 1.0

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.shape
        boxes = np.clip(sample.boxes, 0, np.float32((width, height) * 2))
        keep = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_side).all(axis=1)
        return replace(sample, boxes=boxes[keep], cls=sample.cls[keep])


def center_inside(crop: Crop, boxes: np.ndarray) -> np.ndarray:
    """Return a mask (n,) of the boxes (n, 4) with their center inside the crop."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centers > crop[:2]) & (centers < crop[2:])).all(axis=1)
