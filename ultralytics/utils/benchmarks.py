"""Public import path; `benchmark` is in `published/networks.py` and `models/benchmark.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
