"""What a log file gets, and the estimate of the time left."""

from __future__ import annotations

import pytest
import torch

from ultralytics.engine import train_log as progress
from ultralytics.engine.train_log import EpochProgress, RunClock, format_seconds


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (725, "12:05"), (11220, "3:07:00")])
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.fixture
def now(monkeypatch):
    """A clock that is set by hand: `now[0] = seconds`."""
    value = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: value[0])
    return value


def test_time_left_counts_batches_and_epoch_ends(now):
    clock = RunClock(epochs=3, batches=4)
    clock.start_epoch()
    for second in (2, 4, 6, 8):
        now[0] = second
        clock.batch_done()
    assert clock.left(epoch=0, batch=1) == 2 * 2 + 2 * 8  # no validation has been seen yet
    now[0] = 11
    clock.end_epoch()
    assert clock.epoch_seconds == 4 * 2 + 3
    assert clock.left(epoch=1, batch=3) == 3 + 11
    assert clock.elapsed == 11


def test_a_log_file_gets_one_line_an_epoch(caplog, now):
    clock = RunClock(epochs=10, batches=2)
    with caplog.at_level("INFO", logger="ultralytics"):
        clock.start_epoch()
        with EpochProgress(["giou_loss"], clock, 0, 0, torch.device("cpu")) as bar:
            for second in (1, 2):
                now[0] = second
                clock.batch_done()
                bar.update([0.5] if bar.wants_losses else None, boxes=7, images=4, size=64)
    assert caplog.messages == [" 1/10  giou 0.500  left 0:18  4.0 img/s  7 boxes  64px"]
