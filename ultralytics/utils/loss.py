"""Public import path; losses are in `losses/`, `v8DetectionLoss` is in `published/losses.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
