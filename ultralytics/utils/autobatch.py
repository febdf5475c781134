"""Public import path; batch=-1 is chosen in `engine/autobatch.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
