"""Registration and order of callbacks."""

import pytest

from ultralytics.utils.callbacks import Callbacks
from ultralytics.utils.errors import OptionError


def test_callbacks_run_in_order():
    seen = []
    callbacks = Callbacks({"on_train_start": lambda source: seen.append(("first", source))})
    callbacks.add("on_train_start", lambda source: seen.append(("second", source)))
    extended = callbacks.copy()
    extended.add("on_train_start", lambda source: seen.append(("third", source)))
    callbacks.run("on_train_start", "trainer")
    assert seen == [("first", "trainer"), ("second", "trainer")]
    callbacks["on_train_start"].clear()
    assert not callbacks["on_train_start"]
    assert len(extended["on_train_start"]) == 3


def test_unknown_events_and_what_is_no_function_are_rejected():
    with pytest.raises(OptionError, match="did you mean 'on_train_epoch_end'"):
        Callbacks().add("on_train_epoch_ended", print)
    with pytest.raises(OptionError, match="expected a function, got 3"):
        Callbacks().add("on_train_start", 3)
