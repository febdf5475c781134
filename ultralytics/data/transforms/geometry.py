"""Transforms that move pixels and boxes: resize, letterbox, flip, affine and perspective."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from ultralytics.data.images import stretch
from ultralytics.data.transforms.sample import Sample, sample_of, takes_labels, update_labels
from ultralytics.utils.errors import OptionError

GRAY = 114  # padding, the usual value in the field
MIN_SIDE = 2.0  # pixels; boxes clipped to less are dropped
MIN_VISIBLE = 0.1  # fraction of a box's area that must remain in the image
MAX_ASPECT = 100.0  # longer side / shorter side of a clipped box
MAX_SHRINK = 4.0  # larger parts of a canvas are warped instead of copied and resized

Tile = tuple[np.ndarray, int, int]  # an image, and the x and y of its upper left corner on a canvas


def clip_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes (n, 4) to an image of `shape` (h, w); return them and the mask (n,) of those worth keeping."""
    height, width = shape
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    before = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9)  # (n, 2) width, height
    after = clipped[:, 2:] - clipped[:, :2]
    shorter, longer = after.min(axis=1, initial=np.inf), after.max(axis=1, initial=0)
    keep = (shorter > MIN_SIDE) & (after.prod(axis=1) > MIN_VISIBLE * before.prod(axis=1))
    return clipped, keep & (longer < MAX_ASPECT * np.maximum(shorter, 1e-9))


@dataclass(frozen=True)
class Resize:
    """Stretch the image to (size, size)."""

    size: int

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        down, across = self.size / sample.shape[0], self.size / sample.shape[1]
        if down == across == 1:
            return sample
        boxes = sample.boxes * np.float32((across, down) * 2)
        ratio = (sample.ratio[0] * down, sample.ratio[1] * across)
        return replace(sample, image=stretch(sample.image, (self.size, self.size)), boxes=boxes, ratio=ratio)


@dataclass(frozen=True)
class LetterBox:
    """Resize to fit into `new_shape` with the aspect ratio kept, and pad the rest.

    Args:
        new_shape: side of a square, or (height, width).
        auto: pad only to the next multiple of `stride`, which gives a smaller output than `new_shape`.
        scale_fill: stretch to `new_shape` without padding.
        scaleup: False never enlarges an image.
        center: False pads only on the right and at the bottom.
        stride: multiple of the sides with `auto`.
        padding_value: gray level of the padding.
        interpolation: of OpenCV.

    Examples:
        >>> LetterBox(640, auto=True)(image=np.zeros((480, 1280, 3), np.uint8)).shape
        (256, 640, 3)
    """

    new_shape: int | tuple[int, int] = (640, 640)
    auto: bool = False
    scale_fill: bool = False
    scaleup: bool = True
    center: bool = True
    stride: int = 32
    padding_value: int = GRAY
    interpolation: int = cv2.INTER_LINEAR

    def __call__(
        self, labels: Sample | dict | None = None, rng: np.random.Generator | None = None, *,
        image: np.ndarray | None = None,
    ) -> Sample | dict | np.ndarray:  # fmt: skip
        """Return the changed sample or, for an `image` (H, W, 3), the changed image.

        Published labels, see `sample_of`, are changed in place; their `rect_shape` is used as `new_shape`.
        """
        if not labels:
            return self._apply(image)[0]
        if isinstance(labels, dict):
            fitted = replace(self, new_shape=labels.pop("rect_shape", self.new_shape))
            before = sample_of(labels if image is None else {**labels, "img": image})
            return update_labels(labels, before, fitted(before))
        image, (down, across), (left, top) = self._apply(labels.image)
        boxes = labels.boxes * np.float32((across, down) * 2) + np.float32((left, top) * 2)
        ratio = (labels.ratio[0] * down, labels.ratio[1] * across)
        pad = (labels.pad[0] * across + left, labels.pad[1] * down + top)
        return replace(labels, image=image, boxes=boxes, ratio=ratio, pad=pad)

    def _apply(self, image: np.ndarray) -> tuple[np.ndarray, tuple[float, float], tuple[int, int]]:
        """Return the output, the resize ratios (height, width), and the padding (left, top)."""
        height, width = image.shape[:2]
        size = (self.new_shape, self.new_shape) if isinstance(self.new_shape, int) else self.new_shape
        scale = min(size[0] / height, size[1] / width)
        scale = scale if self.scaleup else min(scale, 1.0)
        inner = tuple(size) if self.scale_fill else (max(1, round(height * scale)), max(1, round(width * scale)))
        rest = [outer - side for outer, side in zip(size, inner, strict=True)]  # pixels to pad in height and width
        if self.auto and not self.scale_fill:
            rest = [pixels % self.stride for pixels in rest]
        top, left = (pixels // 2 if self.center else 0 for pixels in rest)  # an odd pixel is at the bottom or right
        if inner != (height, width):
            image = cv2.resize(image, inner[::-1], interpolation=self.interpolation)
        if any(rest):
            gray = (self.padding_value,) * 3
            image = cv2.copyMakeBorder(image, top, rest[0] - top, left, rest[1] - left, cv2.BORDER_CONSTANT, value=gray)
        return image, (inner[0] / height, inner[1] / width), (left, top)


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left-right or, with the direction "vertical", top-bottom with probability p."""

    p: float = 0.5
    direction: Literal["horizontal", "vertical"] = "horizontal"

    def __post_init__(self) -> None:
        if self.direction not in ("horizontal", "vertical"):
            raise OptionError(f"RandomFlip: direction={self.direction!r}, expected 'horizontal' or 'vertical'")

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        low, high = (1, 3) if self.direction == "vertical" else (0, 2)
        boxes = sample.boxes.copy()
        boxes[:, [low, high]] = sample.shape[1 - low] - sample.boxes[:, [high, low]]
        return replace(sample, image=cv2.flip(sample.image, 1 - low), boxes=boxes)


@dataclass(frozen=True)
class RandomPerspective:
    """Random rotation (± degrees), scale (1 ± scale), shear (± degrees), shift (± fraction of size) and perspective.

    The center of the input moves to the middle of the output before the shift. A mosaic canvas of twice the size is
    therefore cropped, and an image of that size is not moved. `size` is a side, or (width, height); None keeps that of
    the input.
    """

    degrees: float = 0.0
    translate: float = 0.1
    scale: float = 0.5
    shear: float = 0.0
    perspective: float = 0.0
    size: int | tuple[int, int] | None = None

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        matrix = self.draw(sample.shape, rng)
        if sample.shape == self.output(sample.shape) and np.array_equal(matrix, np.eye(3)):
            return sample
        image, boxes, keep = self.warp([(sample.image, 0, 0)], sample.shape, sample.boxes, matrix)
        return replace(sample, image=image, boxes=boxes[keep], cls=sample.cls[keep])

    def output(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape (h, w) of the output for an image of `shape`."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size[::-1] if self.size else shape)

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Return a random (3, 3) matrix from pixels of an image of `shape` (h, w) to pixels of the output."""
        angle, shear_x, shear_y = np.radians(rng.uniform(-1, 1, 3) * (self.degrees, self.shear, self.shear))
        zoom = 1 + rng.uniform(-self.scale, self.scale)
        tilt = rng.uniform(-self.perspective, self.perspective, 2)
        shift = (0.5 + rng.uniform(-self.translate, self.translate, 2)) * self.output(shape)[::-1]
        center = np.array([[1, 0, -shape[1] / 2], [0, 1, -shape[0] / 2], [0, 0, 1]])
        tilt = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1]])
        cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
        rotate = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        shear = np.array([[1, math.tan(shear_x), 0], [math.tan(shear_y), 1, 0], [0, 0, 1]])
        shift = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
        return shift @ shear @ rotate @ tilt @ center

    def warp(
        self, tiles: list[Tile], shape: tuple[int, int], boxes: np.ndarray, matrix: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Warp a canvas of `shape` (h, w), given as tiles; return the image, boxes (n, 4) and the mask (n,) to keep.

        A matrix without rotation, shear and perspective is rounded to whole canvas pixels: that crop is assembled and
        resized, in less than half the time of a warp.
        """
        zoom, output = matrix[0, 0], self.output(shape)
        upright = matrix[0, 1] == matrix[1, 0] == matrix[2, 0] == matrix[2, 1] == 0
        if upright and zoom * MAX_SHRINK > 1:
            height, width = (max(1, round(side / zoom)) for side in output)
            left, top = np.rint(-matrix[:2, 2] / zoom).astype(int).tolist()
            image = stretch(assemble(tiles, left, top, (height, width)), output)
            boxes = (boxes - np.float32((left, top) * 2)) * np.float32((output[1] / width, output[0] / height) * 2)
        else:
            warp, rows = (cv2.warpPerspective, 3) if self.perspective else (cv2.warpAffine, 2)
            canvas = assemble(tiles, 0, 0, shape)
            image = warp(canvas, matrix[:rows], output[::-1], flags=cv2.INTER_LINEAR, borderValue=(GRAY, GRAY, GRAY))
            boxes = warp_boxes(boxes, matrix)
        return image, *clip_boxes(boxes, output)


def assemble(tiles: list[Tile], left: int, top: int, shape: tuple[int, int]) -> np.ndarray:
    """Return the crop of `shape` (h, w) at (left, top) of a canvas of disjoint tiles; a view if one tile covers it."""
    height, width = shape
    parts = []
    for image, x, y in tiles:
        x1, y1 = max(x, left), max(y, top)
        x2, y2 = min(x + image.shape[1], left + width), min(y + image.shape[0], top + height)
        if x1 < x2 and y1 < y2:
            parts.append((y1 - top, x1 - left, image[y1 - y : y2 - y, x1 - x : x2 - x]))
    if len(parts) == 1 and parts[0][2].shape[:2] == shape:
        return parts[0][2]
    canvas = np.full((height, width, 3), GRAY, np.uint8)
    for y, x, part in parts:
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return canvas


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the upright boxes (n, 4) around the four corners of each box after the (3, 3) transformation."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)  # (n, 4) -> (n * 4, 2)
    moved = np.concatenate([corners, np.ones((len(corners), 1), np.float32)], axis=1) @ matrix.T  # (n * 4, 3)
    points = (moved[:, :2] / moved[:, 2:]).reshape(-1, 4, 2)
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1).astype(np.float32)  # (n, 4)
