"""Public import path; `RTDETRValidator` is in `models/rtdetr/predict.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
