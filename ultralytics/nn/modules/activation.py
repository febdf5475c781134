"""Public import path; `AGLU` is in `published/networks.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
