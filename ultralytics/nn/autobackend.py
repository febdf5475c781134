"""Public import path; `AutoBackend` is in `published/networks.py`, exported models in `nn/exported_model.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
