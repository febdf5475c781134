"""YOLO: model, trainer, validator and predictor. Only the trainer, which takes seconds, is imported on first use."""

from ultralytics.models.yolo import detect
from ultralytics.models.yolo.model import YOLO
from ultralytics.utils.public import public_names

__all__ = ["YOLO", "detect"]


__getattr__ = public_names(__name__)
