"""Public import path."""

from ultralytics.models.yolo.detector import DetectionPredictor

__all__ = ["DetectionPredictor"]
