"""Sample: what transforms take and return."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from ultralytics.utils.errors import DataError
from ultralytics.utils.ops import xyxy2xywhn


@dataclass(frozen=True)
class Sample:
    """An image with its boxes. Transforms return a changed copy and never write into the arrays of their input."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    boxes: np.ndarray  # (n, 4) float32 x1, y1, x2, y2 in pixels of `image`
    cls: np.ndarray  # (n,) float32
    file: Path
    ori_shape: tuple[int, int]  # (height, width) of the file, upright
    index: int
    image_id: int | str = 0
    ratio: tuple[float, float] = (1.0, 1.0)  # (height, width) of `image` content / those of the file
    pad: tuple[float, float] = (0.0, 0.0)  # (left, top) pixels of `image` before its content

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[:2]


Transform = Callable[[Sample, np.random.Generator], Sample]


def takes_labels(call: Callable) -> Callable:
    """Let a transform draw from a generator of its own, and also change published labels, a mapping, in place.

    These have `img`, and perhaps `bboxes` (n, 4), corners in pixels, with `cls`, as for `LetterBox`.
    """

    @wraps(call)
    def transform(self: Transform, sample: Sample | dict, rng: np.random.Generator | None = None) -> Sample | dict:
        rng = rng or np.random.default_rng(random.getrandbits(64))
        if not isinstance(sample, dict):
            return call(self, sample, rng)
        if "instances" in sample:
            raise DataError(
                f"{type(self).__name__}: labels have instances, expected bboxes: corners in pixels, and cls"
            )
        image, boxes = sample["img"], np.float32(sample.get("bboxes", np.empty((0, 4))))
        cls = np.asarray(sample.get("cls", np.zeros(len(boxes))))
        changed = call(self, Sample(image, boxes, cls, Path(), image.shape[:2], 0), rng)
        given = {"img": changed.image, "bboxes": changed.boxes, "cls": changed.cls}
        sample.update((key, value) for key, value in given.items() if key in sample)
        return sample

    return transform


class SampleSource(Protocol):
    """Source of further samples for transforms that mix several images."""

    augment_enabled: bool  # False in the last `close_mosaic` epochs

    def sample_random(self, index: int, count: int, rng: np.random.Generator) -> list[Sample]:
        """Return `count` random samples, not augmented, to mix with sample `index`."""


@dataclass(frozen=True)
class Compose:
    """Apply transforms in order, all drawing from the random generator of the sample; to a mapping, without one."""

    transforms: list[Transform]

    def __call__(self, sample: Sample | dict, rng: np.random.Generator | None = None) -> Sample | dict:
        drawing = () if isinstance(sample, dict) else (rng or np.random.default_rng(random.getrandbits(64)),)
        for transform in self.transforms:
            sample = transform(sample, *drawing)
        return sample

    def append(self, transform: Transform) -> None:
        """Add a transform at the end."""
        self.transforms.append(transform)

    def insert(self, index: int, transform: Transform) -> None:
        """Add a transform before that at `index`."""
        self.transforms.insert(index, transform)


@dataclass(frozen=True)
class WithAugmentation:
    """Apply `transform` until the run ends strong augmentation (option `close_mosaic`)."""

    source: SampleSource = field(repr=False)
    transform: Transform

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.transform(sample, rng) if self.source.augment_enabled else sample


def to_network_input(sample: Sample) -> dict:
    """Return `img` uint8 (3, H, W) RGB, `bboxes` (n, 4) cx, cy, w, h in 0..1, `cls` (n, 1), and the image's origin."""
    height, width = sample.shape
    planes = np.empty((3, height, width), np.uint8)
    for channel in range(3):  # HWC BGR -> CHW RGB
        cv2.extractChannel(sample.image, 2 - channel, planes[channel])
    return {
        "img": torch.from_numpy(planes),
        "cls": torch.from_numpy(sample.cls.astype(np.float32)[:, None]),
        "bboxes": torch.from_numpy(xyxy2xywhn(sample.boxes, width, height).astype(np.float32)),
        "im_file": str(sample.file),
        "ori_shape": sample.ori_shape,
        "resized_shape": (height, width),
        "ratio_pad": (sample.ratio, sample.pad),
        "image_id": sample.image_id,
    }


def collate(items: list[dict]) -> dict:
    """Stack images and concatenate boxes; `batch_idx` (N,) is the image index of each box."""
    batch = {key: [item[key] for item in items] for key in items[0]}
    counts = [len(item["cls"]) for item in items]
    batch["batch_idx"] = torch.from_numpy(np.arange(len(items), dtype=np.float32).repeat(counts))  # (N,)
    batch["img"] = torch.from_numpy(np.stack([image.numpy() for image in batch["img"]]))  # (B, 3, H, W)
    batch["cls"] = torch.cat(batch["cls"])  # (N, 1)
    batch["bboxes"] = torch.cat(batch["bboxes"])  # (N, 4)
    return batch
