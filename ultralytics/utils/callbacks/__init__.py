"""Named events of training, validation, prediction and export, and the functions attached to them."""

from ultralytics.utils.callbacks.base import EVENTS, Callback, Callbacks, CallbacksMixin
from ultralytics.utils.public import public_names

__all__ = ["EVENTS", "Callback", "Callbacks", "CallbacksMixin"]


__getattr__ = public_names(__name__)
