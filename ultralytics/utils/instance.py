"""Public import path."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
