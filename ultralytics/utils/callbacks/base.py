"""What trainers, validators, predictors and models have in common: functions can be attached to their events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ultralytics.utils.errors import OptionError, did_you_mean

Callback = Callable[[object], None]

EVENTS = (
    # training, in this order
    "on_pretrain_routine_start",
    "on_pretrain_routine_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_fit_epoch_end",  # after the validation of the epoch
    "on_model_save",
    "on_train_end",
    "teardown",
    # validation
    "on_val_start",
    "on_val_batch_start",
    "on_val_batch_end",
    "on_val_end",
    # prediction
    "on_predict_start",
    "on_predict_batch_start",
    "on_predict_postprocess_end",
    "on_predict_batch_end",
    "on_predict_end",
    # export
    "on_export_start",
    "on_export_end",
)


class Callbacks:
    """Functions attached to events, run in the order they were added."""

    def __init__(self, attached: Mapping[str, Callback | Iterable[Callback]] | None = None) -> None:
        self._attached: dict[str, list[Callback]] = {event: [] for event in EVENTS}
        for event, functions in (attached or {}).items():
            for function in [functions] if callable(functions) else functions:
                self.add(event, function)

    def add(self, event: str, function: Callback) -> None:
        """Attach `function` to `event`. Raises OptionError for an unknown event or something that cannot be called."""
        self._require_known(event)
        if not callable(function):
            raise OptionError(f"callback for {event!r}: expected a function, got {function!r}.")
        self._attached[event].append(function)

    def copy(self) -> Callbacks:
        """A registry with the same functions, to which more can be added for one run."""
        return Callbacks(self._attached)

    def clear(self, event: str | None = None) -> None:
        """Detach every function, or those of one event."""
        if event is not None:
            self._require_known(event)
        for name in EVENTS if event is None else (event,):
            self._attached[name].clear()

    def run(self, event: str, source: object) -> None:
        """Call every function attached to `event` with `source`. What a function raises is the caller's to see."""
        for function in self._attached[event]:
            function(source)

    def __getitem__(self, event: str) -> tuple[Callback, ...]:
        self._require_known(event)
        return tuple(self._attached[event])

    def _require_known(self, event: str) -> None:
        if event not in self._attached:
            raise OptionError(f"unknown event {event!r}{did_you_mean(event, EVENTS)}. Events: {', '.join(EVENTS)}.")


class CallbacksMixin:
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
