"""Public import path; the class is in `published/machine.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
