"""Public import path; the loggers are in `utils/callbacks/loggers.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
