"""Not built: importing a name raises ImportError, with what to use."""

from ultralytics.utils.public import absent_names

__getattr__ = absent_names(__name__, "segment")
