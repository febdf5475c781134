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
LARGEST_CUT = 4.0  # sizes of the output: a larger square of a canvas is not copied to be made smaller
MAX_ASPECT = 100.0  # longer side / shorter side of what stays

Tile = tuple[np.ndarray, int, int]  # an image, and the x and y of its upper left corner on a canvas


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
        image, boxes, keep = self.move([(sample.image, 0, 0)], sample.shape, sample.boxes, matrix)
        return replace(sample, image=image, boxes=boxes[keep], cls=sample.cls[keep])

    def move(
        self, tiles: list[Tile], shape: tuple[int, int], boxes: np.ndarray, matrix: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image, boxes (n, 4), and which boxes stay (n,), of a canvas of `shape` (h, w) moved by the (3, 3) matrix.

        A matrix that only moves and scales is brought to whole pixels of the canvas: that square of it is put together
        and resized, in less than half the time of a warp.
        """
        zoom = matrix[0, 0]
        upright = matrix[0, 1] == matrix[1, 0] == matrix[2, 0] == matrix[2, 1] == 0
        if upright and zoom * LARGEST_CUT > 1:
            side = max(1, round(self.size / zoom))
            left, top = np.rint(-matrix[:2, 2] / zoom).astype(int).tolist()
            image = stretch(assemble(tiles, left, top, (side, side)), (self.size, self.size))
            boxes = (boxes - np.float32((left, top) * 2)) * np.float32(self.size / side)
        else:
            warp, rows = (cv2.warpPerspective, 3) if self.perspective else (cv2.warpAffine, 2)
            size, grey = (self.size, self.size), (GREY, GREY, GREY)
            canvas = assemble(tiles, 0, 0, shape)
            image = warp(canvas, matrix[:rows], size, flags=cv2.INTER_LINEAR, borderValue=grey)
            boxes = warp_boxes(boxes, matrix)
        return image, *clip_boxes(boxes, (self.size, self.size))

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


def assemble(tiles: list[Tile], left: int, top: int, shape: tuple[int, int]) -> np.ndarray:
    """The part of `shape` (h, w) at (left, top) of a canvas of tiles that do not overlap; a view if of a single one."""
    height, width = shape
    parts = []
    for image, x, y in tiles:  # upper left corner on the canvas
        x1, y1 = max(x, left), max(y, top)
        x2, y2 = min(x + image.shape[1], left + width), min(y + image.shape[0], top + height)
        if x1 < x2 and y1 < y2:
            parts.append((y1 - top, x1 - left, image[y1 - y : y2 - y, x1 - x : x2 - x]))
    whole = sum(part.shape[0] * part.shape[1] for *_, part in parts) == height * width
    if whole and len(parts) == 1:
        return parts[0][2]
    canvas = np.empty((height, width, 3), np.uint8) if whole else np.full((height, width, 3), GREY, np.uint8)
    for y, x, part in parts:
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return canvas


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The upright boxes (n, 4) around the four corners of each box after the (3, 3) transformation."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)  # (n, 4) -> (n * 4, 2)
    moved = np.concatenate([corners, np.ones((len(corners), 1), np.float32)], axis=1) @ matrix.T  # (n * 4, 3)
    points = (moved[:, :2] / moved[:, 2:]).reshape(-1, 4, 2)
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1).astype(np.float32)  # (n, 4)
