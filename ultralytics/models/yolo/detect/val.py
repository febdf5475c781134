"""Public import path."""

from ultralytics.models.yolo.detector import DetectionValidator

__all__ = ["DetectionValidator"]
