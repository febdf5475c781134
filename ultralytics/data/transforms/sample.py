"""Sample: what transforms take and return."""

import random
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

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


def sample_of(labels: dict) -> Sample:
    """Return published labels as a sample: `img`, and `instances`, or `bboxes`, corners in pixels, with `cls`."""
    image, boxes, ratio = labels["img"], labels.get("bboxes", np.empty((0, 4))), labels.get("ratio_pad", (1.0, 1.0))
    if (instances := labels.get("instances")) is not None:
        instances = copy(instances)
        instances.convert_bbox("xyxy")
        instances.denormalize(*image.shape[1::-1])
        boxes = instances.bboxes
    cls, shape = np.reshape(labels.get("cls", np.zeros(len(boxes))), -1), labels.get("ori_shape", image.shape[:2])
    ratio, pad = ratio if isinstance(ratio[0], Sequence) else (ratio, (0.0, 0.0))
    file, index, image_id = Path(labels.get("im_file", "")), labels.get("index", 0), labels.get("image_id", 0)
    return Sample(image, np.float32(boxes), np.float32(cls), file, shape, index, image_id, ratio, pad)


def update_labels(labels: dict, before: Sample, after: Sample) -> dict:
    """Write what a transform has changed into published labels.

    Instances are corners in pixels where the shape of the image has changed, else as they were.
    """
    labels["img"] = after.image
    if after.shape != before.shape:
        labels["resized_shape"] = after.shape
    if "ratio_pad" in labels and (after.ratio, after.pad) != (before.ratio, before.pad):
        labels["ratio_pad"] = after.ratio, after.pad
    if after.boxes is not before.boxes:
        if "cls" in labels:
            labels["cls"] = after.cls.reshape(-1, *np.shape(labels["cls"])[1:])
        if "instances" in labels:
            given, instances = labels["instances"], type(labels["instances"])
            labels["instances"] = new = instances(after.boxes, bbox_format="xyxy", normalized=False)
            if after.shape == before.shape:
                new.convert_bbox(given.format)
                if given.normalized:
                    new.normalize(*after.shape[::-1])
        elif "bboxes" in labels:
            labels["bboxes"] = after.boxes
    return labels


def takes_labels(call: Callable) -> Callable:
    """Let a transform draw from a generator of its own, and also change published labels, a mapping, in place."""

    @wraps(call)
    def transform(self: Transform, sample: Sample | dict, rng: np.random.Generator | None = None) -> Sample | dict:
        rng = rng or np.random.default_rng(random.getrandbits(64))
        if not isinstance(sample, dict):
            return call(self, sample, rng)
        before = sample_of(sample)
        return update_labels(sample, before, call(self, before, rng))

    return transform


class SampleSource(Protocol):
    """Source of further samples for transforms that mix several images."""

    augment_enabled: bool  # False in the last `close_mosaic` epochs

    def sample_random(self, index: int, count: int, rng: np.random.Generator) -> list[Sample]:
        """Return `count` random samples, not augmented, to mix with sample `index`."""


@dataclass(frozen=True)
class Compose:
    """Apply transforms in order, all drawing from the random generator of the sample.

    Published labels, a mapping, are passed without one, so that transforms may be functions of the labels only.
    """

    transforms: list[Transform]

    def __call__(self, sample: Sample | dict, rng: np.random.Generator | None = None) -> Sample | dict:
        drawing = () if isinstance(sample, dict) else (rng or np.random.default_rng(random.getrandbits(64)),)
        for transform in self.transforms:
            sample = transform(sample, *drawing)
        return sample

    def append(self, transform: Transform) -> None:
        self.transforms.append(transform)

    def insert(self, index: int, transform: Transform) -> None:
        self.transforms.insert(index, transform)

    def tolist(self) -> list[Transform]:
        return self.transforms


@dataclass(frozen=True)
class WithAugmentation:
    """Apply `transform` until the run ends strong augmentation (option `close_mosaic`)."""

    source: SampleSource = field(repr=False)
    transform: Transform

    @takes_labels
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
