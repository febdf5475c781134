"""Looking ahead: a thread makes the next items while the caller works on the last one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from functools import partial
from typing import TypeVar

from ultralytics.data.background import Background

T = TypeVar("T")
POLL_SECONDS = 0.5  # how long a wait lasts before it looks around again; Ctrl-C must get through on Windows too
CLOSE_SECONDS = 10.0  # for the item being made when the caller leaves
END = object()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def look_ahead(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    """The items in their order, at most `ahead` of them made and not yet taken, and one more in the making.

    What `items` raises is raised here, after the items before it. The thread starts with the first item that is asked
    for; it ends with the items, with an error, or when this generator is closed, and closes `items` itself.
    """
    waiting: queue.Queue = queue.Queue(ahead)
    reader = Background(partial(_fill, items, waiting), name="look-ahead")
    try:
        while (item := _take(waiting)) is not END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
            del item  # while the next one is awaited, this one may go
    finally:
        reader.close(CLOSE_SECONDS)


def _take(waiting: queue.Queue) -> object:
    while True:
        try:
            return waiting.get(timeout=POLL_SECONDS)
        except queue.Empty:
            continue


def _fill(items: Iterable[T], waiting: queue.Queue, leaving: threading.Event) -> None:
    iterator = iter(items)
    last: object = END
    try:
        for item in iterator:
            if not _offer(item, waiting, leaving):
                break
            del item
    except BaseException as error:  # passed on to the caller, whatever it is
        last = _Failure(error)
    finally:
        if hasattr(iterator, "close"):
            iterator.close()  # here, not when it is collected: files and devices are let go of before `join` returns
    _offer(last, waiting, leaving)


def _offer(item: object, waiting: queue.Queue, leaving: threading.Event) -> bool:
    """Whether the item found a place before the caller left."""
    while not leaving.is_set():
        try:
            waiting.put(item, timeout=0.05)
            return True
        except queue.Full:
            continue
    return False
