"""Transforms that combine several samples into one image: mosaic, mixup, cutmix, grid mosaic."""

from dataclasses import dataclass, field, replace

import numpy as np

from ultralytics.data.transforms.geometry import MIN_VISIBLE, RandomPerspective, clip_boxes
from ultralytics.data.transforms.sample import Compose, Sample, SampleSource, Transform, takes_labels
from ultralytics.utils.errors import OptionError
from ultralytics.utils.ops import bbox_ioa

MIN_GRID_SIDE = 4.0  # pixels; half a cell of the finest feature map (stride 8)
AREAS = 3  # rectangles to try in cutmix
BETA = 32.0  # both parameters of the beta distribution of the mixup weight: nearly always close to 0.5


@dataclass(frozen=True)
class Mosaic:
    """With probability p, put four samples around a random center of a (2 * imgsz, 2 * imgsz) canvas; then `affine`.

    Only the part of the canvas that `affine` shows is assembled. Without the mosaic `fit` and `affine` are applied.
    """

    dataset: SampleSource = field(repr=False)
    imgsz: int = 640
    p: float = 1.0
    n: int = 4
    fit: Transform = field(default_factory=lambda: Compose([]))  # to (imgsz, imgsz)
    affine: RandomPerspective | None = None

    def __post_init__(self) -> None:
        if self.n != 4:
            raise OptionError(f"Mosaic: n={self.n}, expected 4: a grid of 9 images is not built")

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.dataset.augment_enabled or rng.random() >= self.p:
            sample = self.fit(sample, rng)
            return self.affine(sample, rng) if self.affine else sample
        samples = [sample, *self.dataset.sample_random(sample.index, 3, rng)]
        side, affine = 2 * self.imgsz, self.affine or RandomPerspective(0, 0, 0, size=2 * self.imgsz)
        center = rng.integers(self.imgsz // 2, self.imgsz + self.imgsz // 2 + 1, size=2).tolist()  # x, y
        tiles, boxes = [], []
        for quarter, tile in enumerate(samples):
            height, width = tile.shape
            # The corner of each tile that faces the center touches it.
            left, top = center[0] - (0 if quarter % 2 else width), center[1] - (0 if quarter // 2 else height)
            x1, y1 = max(left, 0), max(top, 0)
            tiles.append((tile.image[y1 - top : side - top, x1 - left : side - left], x1, y1))
            boxes.append(tile.boxes + np.float32((left, top, left, top)))
        clipped, keep = clip_boxes(np.concatenate(boxes), (side, side))
        cls = np.concatenate([tile.cls for tile in samples])[keep]
        image, moved, visible = affine.warp(tiles, (side, side), clipped[keep], affine.draw((side, side), rng))
        return replace(sample, image=image, boxes=moved[visible], cls=cls[visible])


@dataclass(frozen=True)
class MixUp:
    """With probability p, blend with another sample, after `pre_transform`; the boxes of both are kept."""

    dataset: SampleSource = field(repr=False)
    pre_transform: Transform = field(default_factory=lambda: Compose([]), repr=False)
    p: float = 0.0

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.dataset.augment_enabled or rng.random() >= self.p:
            return sample
        other = self.pre_transform(self.dataset.sample_random(sample.index, 1, rng)[0], rng)
        weight = np.float32(rng.beta(BETA, BETA))
        image = sample.image * weight + other.image * (1 - weight)
        boxes, cls = np.concatenate([sample.boxes, other.boxes]), np.concatenate([sample.cls, other.cls])
        return replace(sample, image=np.rint(image).astype(np.uint8), boxes=boxes, cls=cls)


@dataclass(frozen=True)
class CutMix:
    """With probability p, paste a rectangle of another sample, after `pre_transform`, to the same place (Yun et al.,
    https://arxiv.org/abs/1905.04899). It takes a random part of the area, and overlaps no box, or nothing is pasted.
    """

    dataset: SampleSource = field(repr=False)
    pre_transform: Transform = field(default_factory=lambda: Compose([]), repr=False)
    p: float = 0.0

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.dataset.augment_enabled or rng.random() >= self.p:
            return sample
        size = np.array(sample.shape[::-1])  # width, height
        half = np.sqrt(rng.random((AREAS, 1))) * size / 2
        center = rng.random((AREAS, 2)) * size
        areas = np.concatenate([center - half, center + half], 1).clip(0, np.tile(size, 2)).astype(int)
        free = [area for area in areas if not bbox_ioa(area[None], sample.boxes).any()]
        if not free:
            return sample
        area, other = free[0], self.pre_transform(self.dataset.sample_random(sample.index, 1, rng)[0], rng)
        keep = bbox_ioa(area[None], other.boxes)[0] >= MIN_VISIBLE
        if not keep.any():
            return sample
        x1, y1, x2, y2 = area
        image = sample.image.copy()
        image[y1:y2, x1:x2] = other.image[y1:y2, x1:x2]
        pasted = np.clip(other.boxes[keep], [x1, y1, x1, y1], [x2, y2, x2, y2]).astype(np.float32)
        boxes, cls = np.concatenate([sample.boxes, pasted]), np.concatenate([sample.cls, other.cls[keep]])
        return replace(sample, image=image, boxes=boxes, cls=cls)


@dataclass(frozen=True)
class GridMosaic:
    """With probability p, build a 2 x 2 grid of samples, each after `tile` and `fit`; else apply `otherwise`.

    The image then has about four times the objects, which gives one-to-one matching four times the positives at the
    same cost of the network: "Dense O2O" of DEIM (Huang et al., https://arxiv.org/abs/2412.04234). Boxes with a side
    below MIN_GRID_SIDE in the grid are dropped.
    """

    source: SampleSource = field(repr=False)
    tile: Transform
    fit: Transform  # to (size // 2, size // 2)
    otherwise: Transform
    size: int
    p: float

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.source.augment_enabled or rng.random() >= self.p:
            return self.otherwise(sample, rng)
        half = self.size // 2
        image = np.empty((2 * half, 2 * half, 3), np.uint8)
        boxes, classes = [], []
        for quarter, part in enumerate([sample, *self.source.sample_random(sample.index, 3, rng)]):
            part = self.fit(self.tile(part, rng), rng)
            left, top = half * (quarter % 2), half * (quarter // 2)
            image[top : top + half, left : left + half] = part.image
            keep = (part.boxes[:, 2:] - part.boxes[:, :2]).min(axis=1, initial=np.inf) >= MIN_GRID_SIDE
            boxes.append(part.boxes[keep] + np.float32((left, top, left, top)))
            classes.append(part.cls[keep])
        return replace(sample, image=image, boxes=np.concatenate(boxes), cls=np.concatenate(classes))
