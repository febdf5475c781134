"""Public import path; data sets are in `data/dataset.py` and `published/datasets.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
