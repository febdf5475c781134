"""Named events of training, validation, prediction and export, and the functions attached to them."""

from ultralytics.utils.callbacks.base import EVENTS, Callback, Callbacks, CallbacksMixin

__all__ = ["EVENTS", "Callback", "Callbacks", "CallbacksMixin"]
