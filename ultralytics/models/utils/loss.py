"""Public import path; the loss of RT-DETR is in `losses/detr.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
