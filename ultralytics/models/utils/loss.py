"""Public import path of the RT-DETR loss."""

from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.utils.public import public_names

__all__ = ["RTDETRDetectionLoss"]


__getattr__ = public_names(__name__)
