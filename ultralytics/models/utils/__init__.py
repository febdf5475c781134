"""Public import path; the loss of RT-DETR and its matcher are in `losses/`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
