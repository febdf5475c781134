"""Public import path of the loss functions."""

from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.losses.yolo import DetectionLoss, DualAssignmentLoss
from ultralytics.utils.public import public_names

__all__ = ["DetectionLoss", "DualAssignmentLoss", "RTDETRDetectionLoss"]


__getattr__ = public_names(__name__)
