"""What a running training shows: a bar on a terminal, one line per epoch in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence

import torch
from tqdm import tqdm

from ultralytics.utils import LOGGER


def format_seconds(seconds: float) -> str:
    """`0:42`, `12:05` or `3:07:00`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class RunClock:
    """Estimates the time left of the run from the batches and the epoch ends (validation, saving) seen so far."""

    def __init__(self, epochs: int, batches: int) -> None:
        self.epochs, self.batches = epochs, batches
        self.started = time.perf_counter()
        self._batch_seconds = self._end_seconds = 0.0
        self._batches_seen = self._ends_seen = 0
        self._mark = self.started

    def start_epoch(self) -> None:
        self._mark = time.perf_counter()

    def batch_done(self) -> None:
        now = time.perf_counter()
        self._batch_seconds += now - self._mark
        self._batches_seen += 1
        self._mark = now

    def end_epoch(self) -> None:
        self._end_seconds += time.perf_counter() - self._mark
        self._ends_seen += 1

    @property
    def elapsed(self) -> float:
        """Seconds since the run was started or resumed."""
        return time.perf_counter() - self.started

    def left(self, epoch: int, batch: int) -> float:
        """Seconds from the end of batch `batch` of epoch `epoch` (both from 0) to the end of the run."""
        return (self.epochs - epoch) * self.epoch_seconds - (batch + 1) * self._per_batch

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch as far as known, validation included once there was one."""
        return self.batches * self._per_batch + self._end_seconds / max(self._ends_seen, 1)

    @property
    def _per_batch(self) -> float:
        return self._batch_seconds / max(self._batches_seen, 1)


class EpochProgress:
    """The bar of one epoch. Where standard error is not a terminal it prints a single line at the end instead.

    A context manager: whatever ends the epoch, the bar is closed before anything else is printed.
    """

    def __init__(self, names: Sequence[str], clock: RunClock, epoch: int, done: int, device: torch.device) -> None:
        self.names = [name.removesuffix("_loss") for name in names]
        self.clock, self.epoch, self.device = clock, epoch, device
        self._images, self._started = 0, time.perf_counter()
        self._label, self._text = f"{epoch + 1:>{len(str(clock.epochs))}}/{clock.epochs}", ""
        self._terminal = sys.stderr.isatty() and LOGGER.isEnabledFor(logging.INFO)
        self._bar = tqdm(
            total=clock.batches,
            initial=done,
            desc=self._label,
            disable=not self._terminal,
            dynamic_ncols=True,
            # What a narrow terminal cuts off comes last.
            bar_format="{desc} {percentage:3.0f}%|{bar:8}| {n_fmt}/{total_fmt}{postfix}",
        )

    def __enter__(self) -> EpochProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if not self._terminal and self._text:
            LOGGER.info(f"{self._label}  {self._text}")

    @property
    def wants_losses(self) -> bool:
        """Whether the next update will be seen; reading the losses makes a GPU wait, so it is done only then."""
        bar = self._bar
        return bar.n + 1 >= self.clock.batches or (self._terminal and time.time() - bar.last_print_t >= bar.mininterval)

    def update(self, losses: Sequence[float] | None, boxes: int, images: int, size: int) -> None:
        """Count a batch; `losses` are the epoch's means so far, or None to leave the text as it is."""
        self._images += images
        if losses is not None:
            speed = self._images / max(time.perf_counter() - self._started, 1e-9)
            shown = [f"{name} {value:.3f}" for name, value in zip(self.names, losses, strict=True)]
            shown += [f"left {format_seconds(self.clock.left(self.epoch, self._bar.n))}", f"{speed:.1f} img/s"]
            shown += [f"{boxes} boxes", f"{size}px"]
            if self.device.type == "cuda":
                shown.append(f"{torch.cuda.memory_reserved(self.device) / 1e9:.1f}G")
            self._text = "  ".join(shown)
            self._bar.set_postfix_str(self._text, refresh=False)
        if self._terminal:
            self._bar.update()
        else:  # a bar that is disabled does not count
            self._bar.n += 1
