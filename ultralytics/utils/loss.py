"""Public import path of the loss functions."""

from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.losses.yolo import DetectionLoss, DualAssignmentLoss

__all__ = ["DetectionLoss", "DualAssignmentLoss", "RTDETRDetectionLoss"]
