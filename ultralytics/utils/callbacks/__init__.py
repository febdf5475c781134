"""Named events of training, validation, prediction and export, and the functions users attach to them."""

from ultralytics.utils.callbacks.owner import CallbackOwner
from ultralytics.utils.callbacks.registry import EVENTS, Callback, Callbacks

__all__ = ["EVENTS", "Callback", "CallbackOwner", "Callbacks"]
