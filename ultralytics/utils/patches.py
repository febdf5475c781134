"""Public import path; `imread` and `imwrite` are in `published/datasets.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
