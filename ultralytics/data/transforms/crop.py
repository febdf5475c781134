"""Zooming out and cropping as SSD does it (Liu et al., https://arxiv.org/abs/1512.02325), and clearing up the boxes.

Limits and order of decisions are those of torchvision's transforms of these names, which the official RT-DETR
configuration uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ultralytics.data.transforms.sample import Sample

LARGEST_ZOOM = 4.0
FILL = 0  # black, as in the official configuration
OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # least IoU of some box with the crop; 1 leaves the image as it is
SMALLEST_CROP = 0.3  # share of a side
MOST_ASPECT = 2.0  # width / height of a crop is between 1 / this and this
TRIALS = 40  # crops drawn for one of the overlaps before another one is drawn


@dataclass(frozen=True)
class RandomZoomOut:
    """With probability p, put the image somewhere on a black canvas of 1 to 4 times its sides.

    `longest`: the canvas is made smaller where one of its sides would be more pixels, which saves memory and time
    where the result is going to be shrunk anyhow.
    """

    p: float = 0.5
    longest: int | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        on, zoom, place = rng.random() < self.p, rng.uniform(1, LARGEST_ZOOM), rng.random(2)
        if not on:
            return sample
        shrink = min(1.0, self.longest / (max(sample.shape) * zoom)) if self.longest else 1.0
        image = shrunk(sample.image, shrink)
        height, width = image.shape[:2]
        canvas = np.full((int(height * zoom), int(width * zoom), 3), FILL, np.uint8)
        left, top = int((canvas.shape[1] - width) * place[0]), int((canvas.shape[0] - height) * place[1])
        canvas[top : top + height, left : left + width] = image
        scale = (width / sample.shape[1], height / sample.shape[0])
        return replace(sample, image=canvas, boxes=sample.boxes * np.float32(scale * 2) + np.float32((left, top) * 2))


@dataclass(frozen=True)
class RandomIoUCrop:
    """With probability p, cut out a part that holds the centre of a box, of 0.3 to 1 of each side.

    How much of a box the part has to cover at least is drawn first. Boxes whose centre is outside are dropped, the
    others cut at the border. An image without boxes stays as it is.
    """

    p: float = 0.8

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p or not len(sample.boxes):
            return sample
        crop = self.draw(sample.shape, sample.boxes, rng)
        if crop is None:
            return sample
        left, top, right, bottom = crop
        keep = holds_centre(crop, sample.boxes)
        boxes = np.clip(sample.boxes[keep], (left, top) * 2, (right, bottom) * 2) - (left, top) * 2
        image = np.ascontiguousarray(sample.image[top:bottom, left:right])
        return replace(sample, image=image, boxes=boxes.astype(np.float32), cls=sample.cls[keep])

    def draw(
        self, shape: tuple[int, int], boxes: np.ndarray, rng: np.random.Generator
    ) -> tuple[int, int, int, int] | None:
        """Random left, top, right, bottom within an image of `shape` (h, w); None leaves the image as it is."""
        height, width = shape
        while True:
            least = OVERLAPS[rng.integers(len(OVERLAPS))]
            if least >= 1:
                return None
            for across, down, x, y in rng.random((TRIALS, 4)):
                new_width = int(width * (SMALLEST_CROP + (1 - SMALLEST_CROP) * across))
                new_height = int(height * (SMALLEST_CROP + (1 - SMALLEST_CROP) * down))
                if min(new_width, new_height) < 1 or not 1 / MOST_ASPECT < new_width / new_height < MOST_ASPECT:
                    continue
                left, top = int((width - new_width) * x), int((height - new_height) * y)
                crop = (left, top, left + new_width, top + new_height)
                inside = holds_centre(crop, boxes)
                if inside.any() and overlap(crop, boxes[inside]).max() >= least:
                    return crop


@dataclass(frozen=True)
class SanitizeBoundingBoxes:
    """Cut boxes at the border and drop those with a side below `min_side` pixels."""

    min_side: float = 1.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.shape
        boxes = np.clip(sample.boxes, 0, np.float32((width, height) * 2))
        keep = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_side).all(axis=1)
        return replace(sample, boxes=boxes[keep], cls=sample.cls[keep])


def shrunk(image: np.ndarray, factor: float) -> np.ndarray:
    """The image with its sides multiplied by `factor` <= 1, averaged over what becomes one pixel."""
    if factor >= 1:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def holds_centre(crop: tuple[int, int, int, int], boxes: np.ndarray) -> np.ndarray:
    """(n,) whether the centre of each box (n, 4) lies inside the crop."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > crop[:2]) & (centres < crop[2:])).all(axis=1)


def overlap(crop: tuple[int, int, int, int], boxes: np.ndarray) -> np.ndarray:
    """(n,) IoU of the crop with each box (n, 4)."""
    sides = np.minimum(boxes[:, 2:], crop[2:]) - np.maximum(boxes[:, :2], crop[:2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (crop[2] - crop[0]) * (crop[3] - crop[1]) - shared
    return shared / union
