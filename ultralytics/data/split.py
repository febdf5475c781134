"""Public import path; `autosplit` is in `published/datasets.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
