"""Public import path; `HungarianMatcher` is in `losses/matcher.py`, `get_cdn_group` in `nn/modules/denoising.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
