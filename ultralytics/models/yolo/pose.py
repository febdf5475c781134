"""Not built: importing a name raises ImportError, with what to use."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
