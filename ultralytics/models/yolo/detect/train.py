"""Public import path."""

from ultralytics.models.yolo.training import DetectionTrainer

__all__ = ["DetectionTrainer"]
