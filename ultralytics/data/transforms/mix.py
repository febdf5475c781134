"""Transforms that put several samples into one image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ultralytics.data.transforms.geometry import Fit, RandomPerspective, clip_boxes
from ultralytics.data.transforms.sample import Pool, Sample, Transform

SMALLEST_SIDE = 4.0  # pixels; half a cell of the finest map (stride 8), below which an object shows next to nothing
BETA = 32.0  # both parameters of the mixing weight's distribution: nearly always close to a half


class Mosaic:
    """With probability p, four samples around a random centre of a canvas of (2 * size, 2 * size); then `place`.

    Only the part of the canvas that `place` shows is put together. Without mosaic `place` is all that is done.
    """

    def __init__(self, pool: Pool, size: int, p: float, place: RandomPerspective):
        self.pool, self.size, self.p, self.place = pool, size, p, place

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.pool.strong or rng.random() >= self.p:
            return self.place(sample, rng)
        samples = [sample, *self.pool.others(sample.index, 3, rng)]
        side = 2 * self.size
        centre = rng.integers(self.size // 2, self.size + self.size // 2 + 1, size=2).tolist()  # x, y
        tiles, boxes = [], []
        for quarter, tile in enumerate(samples):
            height, width = tile.shape
            # The corner of each tile that faces the centre touches it.
            left, top = centre[0] - (0 if quarter % 2 else width), centre[1] - (0 if quarter // 2 else height)
            x1, y1 = max(left, 0), max(top, 0)
            tiles.append((tile.image[y1 - top : side - top, x1 - left : side - left], x1, y1))
            boxes.append(tile.boxes + np.float32((left, top, left, top)))
        cut, keep = clip_boxes(np.concatenate(boxes), (side, side))
        cls = np.concatenate([tile.cls for tile in samples])[keep]
        matrix = self.place.draw((side, side), rng)
        image, moved, keep = self.place.move(tiles, (side, side), cut[keep], matrix)
        return replace(sample, image=image, boxes=moved[keep], cls=cls[keep])

    def __repr__(self) -> str:
        return f"Mosaic(size={self.size}, p={self.p}, place={self.place!r})"


class MixUp:
    """With probability p, blend in another sample, which has been through `before`; boxes of both stay."""

    def __init__(self, pool: Pool, before: Transform, p: float):
        self.pool, self.before, self.p = pool, before, p

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.pool.strong or rng.random() >= self.p:
            return sample
        other = self.before(self.pool.others(sample.index, 1, rng)[0], rng)
        weight = np.float32(rng.beta(BETA, BETA))
        image = sample.image * weight + other.image * (1 - weight)
        return replace(
            sample,
            image=np.rint(image).astype(np.uint8),
            boxes=np.concatenate([sample.boxes, other.boxes]),
            cls=np.concatenate([sample.cls, other.cls]),
        )

    def __repr__(self) -> str:
        return f"MixUp(p={self.p})"


class Dense:
    """With probability p a grid of 2 x 2 samples of half the size each, else what `otherwise` makes of the one.

    An image then carries about four times the objects, which gives the one-to-one matching that many more positives at
    the same cost of the network: "Dense O2O" of DEIM (Huang et al., https://arxiv.org/abs/2412.04234). Each sample goes
    through `tile` first. Boxes with a side below SMALLEST_SIDE after shrinking are dropped.
    """

    def __init__(self, pool: Pool, tile: Transform, otherwise: Transform, size: int, p: float):
        self.pool, self.tile, self.otherwise, self.size, self.p = pool, tile, otherwise, size, p
        self.fit = Fit(size // 2)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.pool.strong or rng.random() >= self.p:
            return self.otherwise(sample, rng)
        others = self.pool.others(sample.index, 3, rng)
        half = self.size // 2
        image = np.empty((2 * half, 2 * half, 3), np.uint8)
        boxes, classes = [], []
        for quarter, part in enumerate([sample, *others]):
            part = self.fit(self.tile(part, rng), rng)
            left, top = half * (quarter % 2), half * (quarter // 2)
            image[top : top + half, left : left + half] = part.image
            keep = (part.boxes[:, 2:] - part.boxes[:, :2]).min(axis=1, initial=np.inf) >= SMALLEST_SIDE
            boxes.append(part.boxes[keep] + np.float32((left, top, left, top)))
            classes.append(part.cls[keep])
        return replace(sample, image=image, boxes=np.concatenate(boxes), cls=np.concatenate(classes))

    def __repr__(self) -> str:
        return f"Dense(size={self.size}, p={self.p}, tile={self.tile!r}, otherwise={self.otherwise!r})"
