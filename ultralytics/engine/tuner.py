"""Public import path; `Tuner` is in `models/tuning.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
