"""Public import path of the RT-DETR loss."""

from ultralytics.losses.detr import RTDETRDetectionLoss

__all__ = ["RTDETRDetectionLoss"]
