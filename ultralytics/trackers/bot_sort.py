"""Public import path; `BOTSORT` is in `trackers/track.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
