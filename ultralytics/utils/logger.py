"""Public import path; runs are logged in `engine/train_log.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
