"""Transforms that move pixels and boxes: fitting, flips, affine and perspective."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ultralytics.data.images import GREY, letterbox, stretch
from ultralytics.data.transforms.sample import Sample

MIN_SIDE = 2.0  # pixels; a smaller rest of a box is no object any more
MIN_VISIBLE = 0.1  # share of its area that must stay in the image
MAX_ASPECT = 100.0  # longer side / shorter side of what stays


def clip_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) cut at the border of an image of `shape` (h, w), and the mask (n,) of those still worth keeping."""
    height, width = shape
    cut = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    before = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9)  # (n, 2) width, height
    after = cut[:, 2:] - cut[:, :2]
    keep = (after.min(axis=1, initial=np.inf) > MIN_SIDE) & (after.prod(axis=1) > MIN_VISIBLE * before.prod(axis=1))
    keep &= after.max(axis=1, initial=0) < MAX_ASPECT * np.maximum(after.min(axis=1, initial=np.inf), 1e-9)
    return cut, keep


@dataclass(frozen=True)
class Fit:
    """Bring the image to (size, size): stretched, or letterboxed in the middle. Remembers scale and padding."""

    size: int
    stretched: bool = True

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.shape == (self.size, self.size):
            return sample
        height, width = sample.shape
        if self.stretched:
            image = stretch(sample.image, (self.size, self.size))
            ratio, pad = (self.size / height, self.size / width), (0, 0)
        else:
            image, (scale, _), pad = letterbox(sample.image, self.size)
            ratio = (scale, scale)
        boxes = sample.boxes * np.float32((ratio[1], ratio[0]) * 2) + np.float32(pad * 2)
        whole = (sample.ratio[0] * ratio[0], sample.ratio[1] * ratio[1])
        return replace(sample, image=image, boxes=boxes, ratio=whole, pad=pad)


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left-right or, with `vertical`, top-bottom with probability p."""

    p: float
    vertical: bool = False

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        low, high = (1, 3) if self.vertical else (0, 2)
        side = sample.shape[0 if self.vertical else 1]
        boxes = sample.boxes.copy()
        boxes[:, low], boxes[:, high] = side - sample.boxes[:, high], side - sample.boxes[:, low]
        return replace(sample, image=cv2.flip(sample.image, 0 if self.vertical else 1), boxes=boxes)


@dataclass(frozen=True)
class RandomPerspective:
    """Random rotation (± degrees), scale (1 ± scale), shear (± degrees), shift (± share of the size) and perspective.

    The centre of the input lands in the middle of a (size, size) output before the shift, so a mosaic canvas of twice
    the size is cropped and an image of the size stays in place.
    """

    size: int
    degrees: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        matrix = self.draw(sample.shape, rng)
        if sample.shape == (self.size, self.size) and np.array_equal(matrix, np.eye(3)):
            return sample
        warp, rows = (cv2.warpPerspective, 3) if self.perspective else (cv2.warpAffine, 2)
        grey = (GREY, GREY, GREY)
        image = warp(sample.image, matrix[:rows], (self.size, self.size), flags=cv2.INTER_LINEAR, borderValue=grey)
        boxes, keep = clip_boxes(warp_boxes(sample.boxes, matrix), (self.size, self.size))
        return replace(sample, image=image, boxes=boxes[keep], cls=sample.cls[keep])

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """A random (3, 3) matrix from pixels of an image of `shape` (h, w) to pixels of the output."""
        angle, shear_x, shear_y = np.radians(rng.uniform(-1, 1, 3) * (self.degrees, self.shear, self.shear))
        zoom = 1 + rng.uniform(-self.scale, self.scale)
        tilt = rng.uniform(-self.perspective, self.perspective, 2)
        shift = (0.5 + rng.uniform(-self.translate, self.translate, 2)) * self.size
        centred = np.array([[1, 0, -shape[1] / 2], [0, 1, -shape[0] / 2], [0, 0, 1]])
        tilted = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1]])
        cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
        turned = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        sheared = np.array([[1, math.tan(shear_x), 0], [math.tan(shear_y), 1, 0], [0, 0, 1]])
        shifted = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
        return shifted @ sheared @ turned @ tilted @ centred


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The upright boxes (n, 4) around the four corners of each box after the (3, 3) transformation."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)  # (n, 4) -> (n * 4, 2)
    moved = np.concatenate([corners, np.ones((len(corners), 1), np.float32)], axis=1) @ matrix.T  # (n * 4, 3)
    points = (moved[:, :2] / moved[:, 2:]).reshape(-1, 4, 2)
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1).astype(np.float32)  # (n, 4)
