"""YOLO: model, trainer, validator and predictor. Only the trainer, which takes seconds, is imported on first use."""

from ultralytics.models.yolo import detect
from ultralytics.models.yolo.model import YOLO

__all__ = ["YOLO", "detect"]
