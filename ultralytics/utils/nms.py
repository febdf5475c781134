"""Public import path; `non_max_suppression` is in `utils/ops.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
