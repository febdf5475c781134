"""Named events of training, validation, prediction and export, and the functions users attach to them."""

from ultralytics.utils.callbacks.base import EVENTS, Callback, CallbackOwner, Callbacks

__all__ = ["EVENTS", "Callback", "CallbackOwner", "Callbacks"]
