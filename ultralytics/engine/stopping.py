"""Reasons to end a run before its last epoch: no progress, no time, Ctrl-C, numbers that are not finite."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import UserError


class NonFiniteLossError(UserError):
    """The loss, the gradient or the weights became NaN or infinite, for the second time in a run."""


class NonFinite(ArithmeticError):
    """Something of this batch is NaN or infinite; the message says what. The optimiser has not taken the step."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C, after the state was saved. The message says how to resume."""


class EarlyStopping:
    """Ends a run whose fitness has not risen for `patience` epochs; 0 never does."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_fitness: float | None = None
        self.best_epoch = -1

    def update(self, epoch: int, fitness: float) -> bool:
        """Note the fitness of an epoch (counting from 0). True when it is the best so far.

        A fitness of nan (nothing is labelled in the validation images) judges nothing: until there is a number, the
        newest epoch is the best.
        """
        if math.isnan(fitness):
            self.best_epoch = epoch if self.best_fitness is None else self.best_epoch
            return self.best_fitness is None
        if self.best_fitness is not None and fitness <= self.best_fitness:
            return False
        self.best_fitness, self.best_epoch = fitness, epoch
        return True

    def reason(self, epoch: int) -> str:
        """Why to stop after this epoch; empty to go on."""
        waited = epoch - self.best_epoch
        if not self.patience or self.best_fitness is None or waited < self.patience:
            return ""
        return (
            f"no better result for {waited} epochs (patience={self.patience}): the best fitness, "
            f"{self.best_fitness:.4f}, was reached in epoch {self.best_epoch + 1}. "
            "Give a larger patience, or patience=0, to go on regardless."
        )


def time_limit_reason(elapsed: float, epoch_seconds: float, limit_hours: float | None) -> str:
    """Why another epoch of this length (seconds) would not fit into the time limit; empty when it does."""
    if limit_hours is None or elapsed + epoch_seconds <= limit_hours * 3600:
        return ""
    return (
        f"{elapsed / 3600:.2f} of time={limit_hours:g} hours have passed and another epoch "
        f"takes {epoch_seconds / 3600:.2f}."
    )


SAME_SIGNAL = 1.0  # seconds


class Interrupt:
    """Set by the first Ctrl-C; the trainer looks at it between optimiser steps, where the state is whole."""

    def __init__(self) -> None:
        self.requested = False
        self._asked = 0.0
        self._process = os.getpid()

    def handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a data worker, which has inherited the handler: the trainer decides
            return
        if self.requested:
            # The second Ctrl-C does not wait. One that comes at once is the first again: torchrun passes on a signal
            # which the terminal has sent to all processes already.
            if time.monotonic() - self._asked > SAME_SIGNAL:
                raise KeyboardInterrupt
            return
        self.requested, self._asked = True, time.monotonic()
        LOGGER.warning("Interrupted: finishing this step, then saving. Press Ctrl-C again to stop at once.")


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Turns Ctrl-C and the cluster's SIGTERM into a request while the block runs.

    Only the main thread may set signal handlers; in another thread the block runs without them.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {number: signal.signal(number, interrupt.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
