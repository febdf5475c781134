"""Looking ahead: a thread makes the next items while the caller works on the last one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import TypeVar

from ultralytics.data.background import Background

T = TypeVar("T")
POLL_SECONDS = 0.1  # how long a wait lasts before it looks around: a caller may leave, and Ctrl-C come on Windows
CLOSE_SECONDS = 10.0  # for the item being made when the caller leaves
END = object()


def look_ahead(
    items: Iterable[T], ahead: int, *, weigh: Callable[[T], int] = lambda _: 0, most: int = 1
) -> Generator[T, None, None]:
    """The items in their order, at most `ahead` of them made and not yet taken.

    No further item is made while those that wait weigh `most` or more. What `items` raises is raised here, after the
    items before it. The thread starts with the first item that is asked for; it ends with the items, with an error, or
    when this generator is closed, and closes `items` itself.
    """
    shelf = _Shelf(ahead, weigh, most)
    reader = Background(partial(_fill, items, shelf), name="look-ahead")
    try:
        while (item := shelf.take()) is not END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
            del item  # while the next one is awaited, this one may go
    finally:
        reader.close(CLOSE_SECONDS)


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Shelf:
    """What has been made and waits, in order."""

    def __init__(self, places: int, weigh: Callable[[T], int], most: int) -> None:
        self._places, self._weigh, self._most = places, weigh, most
        self._waiting: deque[tuple[object, int]] = deque()
        self._weight = 0
        self._changed = threading.Condition()

    def wait_for_room(self, leaving: threading.Event) -> bool:
        """Whether there is room before the caller leaves."""
        with self._changed:
            while not leaving.is_set():
                if len(self._waiting) < self._places and self._weight < self._most:
                    return True
                self._changed.wait(POLL_SECONDS)
        return False

    def put(self, item: object, weight: int = 0) -> None:
        with self._changed:
            self._waiting.append((item, weight))
            self._weight += weight
            self._changed.notify_all()

    def put_item(self, item: T) -> None:
        self.put(item, self._weigh(item))

    def take(self) -> object:
        with self._changed:
            while not self._waiting:
                self._changed.wait(POLL_SECONDS)
            item, weight = self._waiting.popleft()
            self._weight -= weight
            self._changed.notify_all()
            return item


def _fill(items: Iterable[T], shelf: _Shelf, leaving: threading.Event) -> None:
    iterator = iter(items)
    last: object = END
    try:
        while shelf.wait_for_room(leaving):  # before it is made: what is made waits nowhere else
            item = next(iterator, END)
            if item is END:
                break
            shelf.put_item(item)
            del item
    except BaseException as error:  # passed on to the caller, whatever it is
        last = _Failure(error)
    finally:
        if hasattr(iterator, "close"):
            iterator.close()  # here, not when it is collected: files and devices are let go of before `close` returns
    shelf.put(last)
