"""The public import path of the box operations."""

import math

from ultralytics.utils.boxes import box_iou, clip_boxes, scale_boxes, xywh2xyxy, xyxy2xywh

__all__ = ["box_iou", "clip_boxes", "make_divisible", "scale_boxes", "xywh2xyxy", "xyxy2xywh"]


def make_divisible(x: float, divisor: int) -> int:
    """The smallest multiple of `divisor` that is not below x."""
    return math.ceil(x / divisor) * divisor
