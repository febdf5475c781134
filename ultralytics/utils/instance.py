"""Public import path; `Instances` and `Bboxes` are in `published/instances.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
