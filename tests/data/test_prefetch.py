import gc
import threading
import time
import weakref
from contextlib import closing
from typing import ClassVar

import pytest

from ultralytics.data.loaders import read_ahead


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


class Item:
    """Something that can be counted while it is alive."""

    alive: ClassVar = weakref.WeakSet()

    def __init__(self, number):
        self.number = number
        self.alive.add(self)


def make(count, log=None, fails_at=None):
    """Items, counted in `log`; "closed" is added when the generator is left."""
    try:
        for number in range(count):
            if number == fails_at:
                raise KeyError("broken")
            if log is not None:
                log.append(number)
            yield Item(number)
    finally:
        if log is not None:
            log.append("closed")


def wait_until(condition):
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_order_is_kept_and_everything_arrives(ahead):
    assert [item.number for item in read_ahead(make(300), ahead)] == list(range(300))
    assert not threads()


def test_the_read_ahead_is_bounded_for_a_slow_consumer():
    log = []
    with closing(read_ahead(make(1000, log), 3)) as items:
        for taken in range(5):
            assert next(items).number == taken
            time.sleep(0.05)  # all the time the thread could want
            assert len(log) <= taken + 1 + 3  # taken, waiting or in the making
        assert wait_until(lambda: len(log) == 5 + 3)  # and it is used
    assert log[-1] == "closed" and not threads()


def test_items_are_made_while_the_caller_works():
    log = []
    with closing(read_ahead(make(10, log), 2)) as items:
        next(items)
        assert wait_until(lambda: len(log) >= 3)  # without another call


def test_an_error_comes_after_the_items_before_it():
    seen = []
    with pytest.raises(KeyError, match="broken") as caught:
        for item in read_ahead(make(10, fails_at=4), 2):
            seen.append(item.number)  # what was seen before the error is the question
    assert seen == [0, 1, 2, 3]
    assert any(entry.name == "make" for entry in caught.traceback)  # where it was raised is still to be seen
    assert not threads()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError])
def test_errors_of_any_kind_arrive(kind):
    def items():
        yield 1
        raise kind

    ahead = read_ahead(items(), 2)
    assert next(ahead) == 1
    with pytest.raises(kind):
        next(ahead)
    assert not threads()


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_leaving_early_closes_everything(taken):
    log = []
    items = read_ahead(make(10**9, log), 4)
    for _ in range(taken):
        next(items)
    items.close()
    assert not threads() and (log[-1:] == ["closed"]) == (taken > 0)


def test_a_forgotten_iterator_ends_its_thread():
    log = []
    items = read_ahead(make(10**9, log), 4)
    next(items)
    del items
    gc.collect()
    assert not threads() and log[-1] == "closed"


def test_an_error_of_the_consumer_ends_the_thread():
    with pytest.raises(ZeroDivisionError), closing(read_ahead(make(10**9), 4)) as items:
        for _ in items:
            raise ZeroDivisionError
    assert not threads()


def test_memory_stays_constant_over_two_thousand_items():
    most = 0
    for item in read_ahead(make(2000), 4):
        most = max(most, len(Item.alive))
        del item
    assert 1 <= most <= 1 + 4 + 1 and not len(Item.alive)
