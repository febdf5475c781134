"""What trainers, validators, predictors and models have in common: functions can be attached to their events."""

from __future__ import annotations

from ultralytics.utils.callbacks.registry import Callback, Callbacks


class CallbackOwner:
    """Has `callbacks`, and the methods by which users' scripts attach to them."""

    callbacks: Callbacks

    def add_callback(self, event: str, function: Callback) -> None:
        """Call `function` at an event such as `on_train_epoch_end`, after those that are attached already."""
        self.callbacks.add(event, function)

    def set_callback(self, event: str, function: Callback) -> None:
        """Call `function`, and nothing else, at an event."""
        self.callbacks.clear(event)
        self.callbacks.add(event, function)

    def clear_callback(self, event: str) -> None:
        """Call nothing at an event."""
        self.callbacks.clear(event)

    def run_callbacks(self, event: str) -> None:
        """Call what is attached to an event, with this object."""
        self.callbacks.run(event, self)
