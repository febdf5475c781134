"""The public import path of the box operations."""

import math

from ultralytics.utils.boxes import (
    box_iou,
    clip_boxes,
    ltwh2xywh,
    ltwh2xyxy,
    scale_boxes,
    xywh2ltwh,
    xywh2xyxy,
    xywhn2xyxy,
    xyxy2ltwh,
    xyxy2xywh,
    xyxy2xywhn,
)

__all__ = [
    "box_iou",
    "clip_boxes",
    "ltwh2xywh",
    "ltwh2xyxy",
    "make_divisible",
    "scale_boxes",
    "xywh2ltwh",
    "xywh2xyxy",
    "xywhn2xyxy",
    "xyxy2ltwh",
    "xyxy2xywh",
    "xyxy2xywhn",
]


def make_divisible(x: float, divisor: int) -> int:
    """The smallest multiple of `divisor` that is not below x."""
    return math.ceil(x / divisor) * divisor
