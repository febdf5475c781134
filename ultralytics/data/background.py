"""A thread that reads for someone: it is told to stop when its user leaves, and never outlives the interpreter."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

EXIT_SECONDS = 15.0  # longer than a silent connection is waited for


class Background:
    """Runs `work`, which looks at the event it is given, in a thread of its own.

    At the end of the program the thread is waited for: one that comes back from a decoder to an interpreter that is
    gone would abort the process.
    """

    def __init__(self, work: Callable[[threading.Event], None], *, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=work, args=(self._stopping,), name=name, daemon=True)
        atexit.register(self._wait_at_exit)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the work is done, given up or has failed."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to stop; `close` waits until it has."""
        self._stopping.set()

    def close(self, seconds: float) -> None:
        """Stop and wait, at most `seconds`: what hangs inside a driver cannot be ended, it goes when it returns."""
        self.stop()
        if self._thread is not threading.current_thread():  # the collector may close a forgotten user from anywhere
            self._thread.join(seconds)
        if self.ended:
            atexit.unregister(self._wait_at_exit)

    def _wait_at_exit(self) -> None:
        self.stop()
        self._thread.join(EXIT_SECONDS)
