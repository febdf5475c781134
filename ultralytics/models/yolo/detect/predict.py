"""Public import path; `DetectionPredictor` is in `models/yolo/detector.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
