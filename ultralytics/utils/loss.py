"""Public import path of the loss functions."""

from ultralytics.losses.detr import RTDETRDetectionLoss

__all__ = ["RTDETRDetectionLoss"]
