"""Callbacks: functions attached to named events of trainers, validators, predictors and models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import OptionError, did_you_mean
from ultralytics.utils.overrides import Overridable, unused_replacements
from ultralytics.utils.public import public_names

Callback = Callable[[object], None]
REPORTED: set[str] = set()  # warnings

EVENTS = (
    # training, in this order; on_fit_epoch_end follows the validations of epochs and of the best weights
    "on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start",
    "on_train_epoch_start", "on_train_batch_start", "optimizer_step", "on_before_zero_grad", "on_train_batch_end",
    "on_train_epoch_end", "on_model_save", "on_fit_epoch_end", "on_train_end", "on_params_update", "teardown",
    # validation, prediction, export
    "on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end",
    "on_predict_start", "on_predict_batch_start", "on_predict_postprocess_end", "on_predict_batch_end",
    "on_predict_end", "on_export_start", "on_export_end",
)  # fmt: skip


class Callbacks(dict[str, list[Callback]]):
    """Functions attached to events, called in the order they were added."""

    def __init__(self, attached: Mapping[str, Callback | Iterable[Callback]] | None = None) -> None:
        super().__init__((event, []) for event in EVENTS)
        for event, functions in (attached or {}).items():
            for function in [functions] if callable(functions) else functions:
                self.add(event, function)

    def __missing__(self, event: str) -> list[Callback]:
        raise OptionError(f"unknown event {event!r}{did_you_mean(event, EVENTS)}. Events: {', '.join(EVENTS)}.")

    def add(self, event: str, function: Callback) -> None:
        """Attach `function` to `event`. Raises OptionError for an unknown event or if `function` is not callable."""
        if not callable(function):
            raise OptionError(f"callback for {event!r}: expected a function, got {function!r}.")
        self[event].append(function)

    def copy(self) -> Callbacks:
        """Return a copy, to which more functions can be added for one run."""
        return Callbacks(self)

    def run(self, event: str, source: object) -> None:
        """Call every function attached to `event` with `source`; at starts warn once of `unused_replacements`."""
        if event in ("on_pretrain_routine_start", "on_val_start", "on_predict_start"):
            for line in {*unused_replacements()} - REPORTED:
                LOGGER.warning(line)
                REPORTED.add(line)
        for function in self[event]:
            function(source)


class CallbacksMixin(Overridable):
    """Methods to attach functions to events, for classes with an attribute `callbacks`."""

    callbacks: Callbacks

    @cached_property
    def plots(self) -> dict[Path, dict[str, object]]:
        """Return the files given to `on_plot`, with their data."""
        return {}

    def on_plot(self, name: str | Path, data: object = None) -> None:
        """Note the file of a plot; functions that plot take it as `on_plot`."""
        self.plots[Path(name)] = {"data": data}

    def add_callback(self, event: str, function: Callback) -> None:
        """Call `function` at an event such as `on_train_epoch_end`, after those already attached."""
        self.callbacks.add(event, function)

    def set_callback(self, event: str, function: Callback) -> None:
        """Call only `function` at an event."""
        self.clear_callback(event)
        self.add_callback(event, function)

    def clear_callback(self, event: str) -> None:
        """Detach all functions of an event."""
        self.callbacks[event].clear()

    def run_callbacks(self, event: str) -> None:
        """Call the functions of an event with this object."""
        self.callbacks.run(event, self)


__getattr__ = public_names(__name__)
