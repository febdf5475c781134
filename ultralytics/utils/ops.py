"""The public import path of the box operations."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Boxes = TypeVar("Boxes", np.ndarray, Tensor)
Shape = tuple[int, int]  # height, width


def _stack(columns: list[Boxes]) -> Boxes:
    return torch.stack(columns, -1) if isinstance(columns[0], Tensor) else np.stack(columns, -1)


def _columns(boxes: Boxes) -> tuple[Boxes, Boxes, Boxes, Boxes]:
    if boxes.shape[-1] != 4:
        raise ValueError(f"boxes: got shape {tuple(boxes.shape)}, expected 4 numbers in the last dimension")
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def xywh2xyxy(boxes: Boxes) -> Boxes:
    """Centre and size to corners."""
    x, y, w, h = _columns(boxes)
    half_w, half_h = w / 2, h / 2
    return _stack([x - half_w, y - half_h, x + half_w, y + half_h])


def xyxy2xywh(boxes: Boxes) -> Boxes:
    """Corners to centre and size."""
    left, top, right, bottom = _columns(boxes)
    return _stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])


def xyxy2ltwh(boxes: Boxes) -> Boxes:
    """Corners to upper left corner and size."""
    left, top, right, bottom = _columns(boxes)
    return _stack([left, top, right - left, bottom - top])


def ltwh2xyxy(boxes: Boxes) -> Boxes:
    """Upper left corner and size to corners."""
    left, top, width, height = _columns(boxes)
    return _stack([left, top, left + width, top + height])


def xywh2ltwh(boxes: Boxes) -> Boxes:
    """Centre and size to upper left corner and size."""
    return xyxy2ltwh(xywh2xyxy(boxes))


def ltwh2xywh(boxes: Boxes) -> Boxes:
    """Upper left corner and size to centre and size."""
    return xyxy2xywh(ltwh2xyxy(boxes))


def xywhn2xyxy(boxes: Boxes, w: float = 640, h: float = 640, padw: float = 0, padh: float = 0) -> Boxes:
    """Centre and size in parts of an image `w` wide and `h` high to corners in pixels, moved by `padw` and `padh`."""
    left, top, right, bottom = _columns(xywh2xyxy(boxes))
    return _stack([left * w + padw, top * h + padh, right * w + padw, bottom * h + padh])


def xyxy2xywhn(boxes: Boxes, w: float = 640, h: float = 640, clip: bool = False) -> Boxes:
    """Corners in pixels to centre and size in parts of an image `w` wide and `h` high; `clip` cuts at its border."""
    x, y, width, height = _columns(xyxy2xywh(clip_boxes(boxes, (h, w)) if clip else boxes))
    return _stack([x / w, y / h, width / w, height / h])


def clip_boxes(boxes: Boxes, shape: Shape) -> Boxes:
    """Move the corners of `xyxy` pixels that lie outside an image of `shape` (height, width) onto its border."""
    left, top, right, bottom = _columns(boxes)
    height, width = shape[:2]
    return _stack([left.clip(0, width), top.clip(0, height), right.clip(0, width), bottom.clip(0, height)])


def scale_boxes(
    img1_shape: Shape,
    boxes: Boxes,
    img0_shape: Shape,
    ratio_pad: tuple[tuple[float, float], tuple[float, float]] | None = None,
    padding: bool = True,
    xywh: bool = False,
) -> Boxes:
    """Take boxes from the pixels of a letterboxed network image to those of the original image.

    Args:
        img1_shape: height and width of the network image.
        boxes: pixels of the network image.
        img0_shape: height and width of the original image.
        ratio_pad: ((ratio y, ratio x), (pad left, pad top)) of the letterbox where known, else found from the shapes.
        padding: False where the network image was resized but not padded on the left and top.
        xywh: boxes are centre and size. They are not clipped: a centre and a size have no border to be moved to.
    """
    if ratio_pad is None:
        ratio = min(img1_shape[0] / img0_shape[0], img1_shape[1] / img0_shape[1])
        # The picture inside the letterbox has whole sides, so each axis has a ratio of its own.
        inner_h, inner_w = round(img0_shape[0] * ratio), round(img0_shape[1] * ratio)
        ratio_y, ratio_x = inner_h / img0_shape[0], inner_w / img0_shape[1]
        # The odd pixel of the border is on the right and at the bottom, hence the tenth.
        left, top = round((img1_shape[1] - inner_w) / 2 - 0.1), round((img1_shape[0] - inner_h) / 2 - 0.1)
    else:
        (ratio_y, ratio_x), (left, top) = ratio_pad
    if not padding:
        left = top = 0
    a, b, c, d = _columns(boxes)
    a, b = (a - left) / ratio_x, (b - top) / ratio_y
    if xywh:
        return _stack([a, b, c / ratio_x, d / ratio_y])
    return clip_boxes(_stack([a, b, (c - left) / ratio_x, (d - top) / ratio_y]), img0_shape)


def box_iou(box1: Tensor, box2: Tensor, eps: float = 1e-7) -> Tensor:
    """IoU of every `xyxy` box of one set with every one of the other: (N, 4), (M, 4) -> (N, M)."""
    low = torch.maximum(box1[:, None, :2], box2[None, :, :2])  # (N, M, 2)
    high = torch.minimum(box1[:, None, 2:], box2[None, :, 2:])  # (N, M, 2)
    overlap = (high - low).clamp(min=0).prod(-1)  # (N, M)
    area1 = (box1[:, 2:] - box1[:, :2]).prod(-1)
    area2 = (box2[:, 2:] - box2[:, :2]).prod(-1)
    return overlap / (area1[:, None] + area2[None] - overlap + eps)


def bbox_iou(
    box1: Tensor,
    box2: Tensor,
    xywh: bool = True,
    GIoU: bool = False,
    DIoU: bool = False,
    CIoU: bool = False,
    eps: float = 1e-7,
) -> Tensor:
    """Overlap of boxes pair by pair (shapes broadcast): (..., 4), (..., 4) -> (..., 1).

    Plain IoU, or generalised (arXiv 1902.09630), distance or complete IoU (arXiv 1911.08287); at most one of the three.
    """
    if GIoU + DIoU + CIoU > 1:
        raise ValueError("bbox_iou: choose at most one of GIoU, DIoU and CIoU")
    if xywh:
        box1, box2 = xywh2xyxy(box1), xywh2xyxy(box2)
    low1, high1, low2, high2 = box1[..., :2], box1[..., 2:], box2[..., :2], box2[..., 2:]
    size1, size2 = high1 - low1, high2 - low2
    overlap = (torch.minimum(high1, high2) - torch.maximum(low1, low2)).clamp(min=0).prod(-1, keepdim=True)
    union = size1.prod(-1, keepdim=True) + size2.prod(-1, keepdim=True) - overlap + eps
    iou = overlap / union
    if not (GIoU or DIoU or CIoU):
        return iou

    hull = torch.maximum(high1, high2) - torch.minimum(low1, low2)  # sides of the smallest box around both
    if GIoU:
        hull_area = hull.prod(-1, keepdim=True) + eps
        return iou - (hull_area - union) / hull_area
    between_centres = ((low2 + high2 - low1 - high1) ** 2).sum(-1, keepdim=True) / 4
    distance = between_centres / ((hull**2).sum(-1, keepdim=True) + eps)
    if DIoU:
        return iou - distance
    angle1, angle2 = (torch.atan(s[..., :1] / (s[..., 1:] + eps)) for s in (size1, size2))
    shape_term = 4 / math.pi**2 * (angle2 - angle1) ** 2
    with torch.no_grad():  # the weight is a constant of the loss (equation 11 of the paper)
        weight = shape_term / (shape_term - iou + 1 + eps)
    return iou - distance - weight * shape_term


def make_divisible(x: float, divisor: int) -> int:
    """The smallest multiple of `divisor` that is not below x."""
    return math.ceil(x / divisor) * divisor
