"""The public import path of the box operations."""

from ultralytics.utils.boxes import box_iou, clip_boxes, scale_boxes, xywh2xyxy, xyxy2xywh

__all__ = ["box_iou", "clip_boxes", "scale_boxes", "xywh2xyxy", "xyxy2xywh"]
