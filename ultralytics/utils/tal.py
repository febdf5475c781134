"""Public import path; `TaskAlignedAssigner` is in `losses/assigner.py`, `make_anchors` in `utils/ops.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
