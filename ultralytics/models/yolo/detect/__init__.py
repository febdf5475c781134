"""Public import path; trainer, validator and predictor are in `models/yolo/training.py` and `detector.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
