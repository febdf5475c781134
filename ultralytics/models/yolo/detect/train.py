"""Public import path; `DetectionTrainer` is in `models/yolo/training.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
