"""Public import path; studies are in `models/tuning.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
