"""Progress lines, remaining time, results.csv and the summary of a run."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.engine.fakes import TinyTrainer, results, tiny_options
from ultralytics.data.labels import ImageLabels
from ultralytics.engine import train_log
from ultralytics.engine.train_log import EpochProgress, RunClock
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils import progress

CPU = torch.device("cpu")


@pytest.fixture
def now(monkeypatch):
    """Return a clock that is set by hand: `now[0] = seconds`."""
    value = [0.0]
    monkeypatch.setattr(train_log.time, "perf_counter", lambda: value[0])
    return value


def test_remaining_time(now):
    clock = RunClock(epochs=3, batches=4, seconds_before=100)
    now[0], clock.batches_seen = 12, 4  # an epoch: 8 seconds of batches, 4 of validation
    assert (clock.elapsed, clock.epoch_seconds) == (112, 12)
    assert clock.left(epoch=0, batch=3) == 24 and clock.left(epoch=1, batch=1) == 18


def test_log_file_gets_one_line_per_epoch(caplog, now):
    clock = RunClock(epochs=10, batches=2)
    with caplog.at_level("INFO", logger="ultralytics"), EpochProgress(["giou_loss"], clock, 0, 0, CPU) as bar:
        for now[0] in (1, 2):
            bar.update([0.5] if bar.needs_losses else None, boxes=7, images=4, size=64)
    assert caplog.messages == [" 1/10  giou 0.500  left 0:00:18  4.0 img/s  7 boxes  64px"]


def test_a_log_file_has_a_line_at_least_every_minute(caplog, now):
    clock, times = RunClock(epochs=1, batches=12), {}
    with caplog.at_level("INFO", logger="ultralytics"), EpochProgress(["giou_loss"], clock, 0, 0, CPU) as bar:
        for _ in range(12):
            now[0] += 25
            bar.update([0.5] if bar.needs_losses else None, boxes=7, images=4, size=64)
            times.setdefault(len(caplog.messages), now[0])
    starts = list(times.values())
    assert "1/1  batch 2/12  giou 0.500" in caplog.messages[0] and len(caplog.messages) > 5
    assert max(after - before for before, after in pairwise(starts)) <= 60
    caplog.clear()
    for _ in progress(range(5), "Validating"):
        now[0] += 25
    assert caplog.messages == ["Validating: 2/5", "Validating: 4/5"]


@pytest.fixture
def run(tmp_path, caplog):
    """Return a function that trains with planned fitness values and returns the trainer and the lines of the log."""

    def train(planned=TinyTrainer.planned, **changes):
        caplog.clear()
        trainer = type("Planned", (TinyTrainer,), {"planned": planned})(tiny_options(tmp_path, **changes))
        trainer.train()
        return trainer, "\n".join(caplog.messages).splitlines()

    return train


def test_results_and_parameter_groups(run):
    trainer, lines = run(epochs=1, backbone_lr_ratio=0.5, warmup_iters=0)
    names = "lr/pg0 backbone/decay, lr/pg1 backbone/no decay, lr/pg2 rest/decay, lr/pg3 rest/no decay"
    assert any(names in line for line in lines)
    (row,) = results(trainer.save_dir)
    assert list(row) == [
        "epoch", "train/a_loss", "train/b_loss", "metrics/mAP50-95(B)", "val/a_loss", "val/b_loss",
        "lr/pg0", "lr/pg1", "lr/pg2", "lr/pg3",
    ]  # fmt: skip
    assert [float(row[f"lr/pg{index}"]) for index in range(4)] == pytest.approx([0.005, 0.005, 0.01, 0.01])


def test_summary_names_the_best_epoch(run):
    _, lines = run(planned=(0.1, 0.3, 0.2, 0.2))
    assert any(line.startswith("Finished 4 epochs in 0:00:0") for line in lines)
    assert "Best epoch: 2, with mAP50-95 0.3000." in lines
    assert "  weights/best.pt  epoch 2" in lines and "  weights/last.pt  epoch 4, to resume from" in lines
    _, lines = run(epochs=1, save=False)
    assert not any("weights/" in line or "yolo predict" in line for line in lines)


@pytest.mark.parametrize(
    ("val", "planned", "why"), [(False, (0.1,), "val=False"), (True, (float("nan"),), "no labels")]
)
def test_summary_without_a_best_epoch(run, val, planned, why):
    _, lines = run(planned=planned, epochs=1, val=val)
    assert any(line.startswith("Best epoch: unknown") and why in line for line in lines)


def test_summary_of_early_stopping(run):
    trainer, lines = run(planned=(0.1, 0.5, 0.4, 0.3), epochs=9, patience=2)
    (end,) = (line for line in lines if line.startswith("Finished 4 of 9 epochs"))
    assert "Stopped early: no improvement for 2 epochs (patience=2): the best fitness, 0.5000, was" in end
    assert lines[-1] == f"  yolo train resume={trainer.last} patience=0"


def test_summary_of_the_time_limit(run):
    trainer, lines = run(epochs=1000, time=1e-9)
    assert trainer.finished_epochs == trainer.epochs == 1
    assert any("Stopped: another epoch does not fit into time=1e-09 hours" in line for line in lines)
    assert lines[-1] == f"  yolo train resume={trainer.last} time=HOURS"


def test_the_plot_of_labels_leaves_crowd_regions_out(monkeypatch):
    boxes, crowd, plotted = np.full((3, 4), 0.5, np.float32), np.array([False, True, False]), []
    item = ImageLabels(Path("a.jpg"), (48, 64), np.arange(3), boxes, crowd, 0)
    monkeypatch.setattr(
        "ultralytics.engine.trainer.plot_labels", lambda boxes, classes, *_, **__: plotted.append((boxes, classes))
    )
    trainer = SimpleNamespace(
        train_loader=SimpleNamespace(dataset=SimpleNamespace(set_epoch=None, source=SimpleNamespace(labels=[item]))),
        model=SimpleNamespace(names={}), save_dir=Path(), args=SimpleNamespace(figure_style={}),
    )  # fmt: skip
    BaseTrainer.plot_training_labels(trainer)
    ((boxes, classes),) = plotted
    assert boxes.shape == (2, 4) and classes.tolist() == [0, 2]
