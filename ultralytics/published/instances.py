"""Boxes of published labels, and the last transform of published data sets."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch

from ultralytics.data.transforms.sample import sample_of, to_network_input
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.ops import ltwh2xyxy, xywh2xyxy, xyxy2ltwh, xyxy2xywh

FORMATS = {"xyxy": (np.array, np.array), "xywh": (xywh2xyxy, xyxy2xywh), "ltwh": (ltwh2xyxy, xyxy2ltwh)}


class Bboxes:
    """Boxes (n, 4) in the format xyxy, xywh (center and size) or ltwh; methods change them in place."""

    def __init__(self, bboxes: np.ndarray, format: str = "xyxy") -> None:
        if format not in FORMATS:
            raise OptionError(f"Bboxes: format={format!r}, expected one of {', '.join(FORMATS)}")
        self.bboxes, self.format = np.reshape(bboxes, (-1, 4)), format

    def convert(self, format: str) -> None:
        if format != self.format:
            self.bboxes, self.format = FORMATS[format][1](FORMATS[self.format][0](self.bboxes)), format

    def areas(self) -> np.ndarray:
        return xyxy2ltwh(FORMATS[self.format][0](self.bboxes))[:, 2:].prod(1)

    def mul(self, scale: float | Sequence[float]) -> None:
        self.bboxes = self.bboxes * np.float32(scale)

    def add(self, offset: float | Sequence[float]) -> None:
        self.bboxes = self.bboxes + np.float32(offset)

    def update(self, bboxes: np.ndarray, segments: Any = None, keypoints: Any = None) -> None:
        self.bboxes = np.reshape(bboxes, (-1, 4))

    def __len__(self) -> int:
        return len(self.bboxes)

    def __getitem__(self, index: Any) -> Bboxes:
        new = copy(self)
        new.update(self.bboxes[index])
        return new

    @classmethod
    def concatenate(cls, boxes_list: Sequence[Bboxes], axis: int = 0) -> Bboxes:
        """Return all boxes, which are in one format, as one object."""
        new = copy(boxes_list[0])
        new.update(np.concatenate([boxes.bboxes for boxes in boxes_list], axis))
        return new


class Instances(Bboxes):
    """Boxes of an image: in pixels, or in 0..1 if `normalized`. Outlines and keypoints belong to other tasks."""

    keypoints, segments = None, np.zeros((0, 1000, 2), np.float32)
    convert_bbox, bbox_areas, _bboxes = Bboxes.convert, property(Bboxes.areas), property(lambda self: self)

    def __init__(
        self, bboxes: np.ndarray, segments: Any = None, keypoints: Any = None, bbox_format: str = "xywh",
        normalized: bool = True,
    ) -> None:  # fmt: skip
        if keypoints is not None or (segments is not None and len(segments)):
            raise DataError("Instances: got segments or keypoints, expected boxes only; this package detects boxes")
        super().__init__(bboxes, bbox_format)
        self.normalized = normalized

    def scale(self, scale_w: float, scale_h: float, bbox_only: bool = False) -> None:
        self.mul((scale_w, scale_h) * 2)

    def denormalize(self, w: int, h: int) -> None:
        if self.normalized:
            self.scale(w, h)
        self.normalized = False

    def normalize(self, w: int, h: int) -> None:
        if not self.normalized:
            self.scale(1 / w, 1 / h)
        self.normalized = True

    def add_padding(self, padw: int, padh: int) -> None:
        if self.normalized:
            raise DataError("Instances.add_padding: boxes in 0..1, expected pixels; call denormalize first")
        self.add((padw, padh) * 2 if self.format == "xyxy" else (padw, padh, 0, 0))

    def fliplr(self, w: int, axis: int = 0) -> None:
        given, self.bboxes = self.format, self.bboxes.copy()
        self.convert("xyxy")
        self.bboxes[:, [axis, axis + 2]] = w - self.bboxes[:, [axis + 2, axis]]
        self.convert(given)

    def flipud(self, h: int) -> None:
        self.fliplr(h, axis=1)

    def clip(self, w: int, h: int) -> None:
        self.convert("xyxy")
        self.bboxes = self.bboxes.clip(0, np.float32((w, h) * 2))

    def remove_zero_area_boxes(self) -> np.ndarray:
        """Drop boxes without an area; return the mask (n,) of the others."""
        good = self.areas() > 0
        self.bboxes = self.bboxes[good]
        return good


class BaseTransform:
    """Change published labels, a mapping: override `__call__`, or the parts that it calls in this order."""

    def get_params(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Return what is drawn for an image, for the other methods."""
        return {}

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the labels with another image."""
        return labels

    apply_instances = apply_semantic = apply_image

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        params = self.get_params(labels)
        for apply in (self.apply_image, self.apply_instances, self.apply_semantic):
            labels = apply(labels, params) or labels
        return labels


class BaseMixTransform(BaseTransform):
    """Mix images with probability p: override `_mix_transform`, or the parts of `BaseTransform`; see `mix_labels`."""

    def __init__(self, dataset: Any, pre_transform: Callable | None = None, p: float = 0.0) -> None:
        self.dataset, self.pre_transform, self.p = dataset, pre_transform, p

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        if random.random() >= self.p:
            return labels
        indexes = self.get_indexes()
        mixed = [self.dataset.get_image_and_label(i) for i in np.atleast_1d(indexes).tolist()]
        labels["mix_labels"] = [self.pre_transform(item) for item in mixed] if self.pre_transform else mixed
        labels = self._mix_transform(labels)
        labels.pop("mix_labels", None)
        return labels

    def _mix_transform(self, labels: dict[str, Any]) -> dict[str, Any]:
        return super().__call__(labels)

    def get_params(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Return the labels of the images to mix."""
        return {"mix_labels": labels["mix_labels"]}

    def get_indexes(self) -> int | list[int]:
        """Draw the images to mix."""
        return random.randrange(len(self.dataset))


class Format:
    """Convert labels to tensors: `img` (3, H, W) RGB, `cls` (n, 1), `bboxes` (n, 4) and `batch_idx` (n,)."""

    def __init__(
        self, bbox_format: str = "xywh", normalize: bool = True, return_mask: bool = False,
        return_keypoint: bool = False, return_obb: bool = False, mask_ratio: int = 4, mask_overlap: bool = True,
        batch_idx: bool = True, bgr: float = 0.0,
    ) -> None:  # fmt: skip
        if return_mask or return_keypoint or return_obb or bgr:
            raise OptionError("Format: return_mask, return_keypoint, return_obb and bgr: expected False: only boxes")
        self.bbox_format, self.normalize, self.batch_idx = bbox_format, normalize, batch_idx

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Return the labels with tensors in place of the image, the classes and the instances."""
        item = to_network_input(sample_of(labels))
        boxes = Bboxes(item["bboxes"].numpy(), "xywh")
        boxes.convert(self.bbox_format)
        if not self.normalize:
            boxes.mul(item["resized_shape"][::-1] * 2)
        item["bboxes"] = torch.from_numpy(boxes.bboxes)
        given = {key: value for key, value in labels.items() if key not in ("instances", "index", "rect_shape")}
        return {**given, **item, **({"batch_idx": torch.zeros(len(boxes))} if self.batch_idx else {})}
