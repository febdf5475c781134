"""YOLO: model, trainer, validator and predictor."""

from ultralytics.models.yolo import detect
from ultralytics.utils.public import public_names

__all__ = ["detect"]
__getattr__ = public_names(__name__)
