"""Log of a training run: progress bar, remaining time, rows of results.csv, summary, plots."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ultralytics.cfg.options import Options
from ultralytics.engine.optim import Schedule
from ultralytics.engine.train_state import TrainState
from ultralytics.utils import LINE_SECONDS, LOGGER
from ultralytics.utils.callbacks import Callbacks
from ultralytics.utils.plotting import plot_images, plot_labels, plot_results


class RunClock:
    """Measure the time of a run, and estimate the remaining time from the mean time per batch, validation included."""

    def __init__(self, epochs: int, batches: int, seconds_before: float = 0.0) -> None:
        self.epochs, self.batches, self.seconds_before = epochs, batches, seconds_before
        self.batches_seen = 0
        self._started = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds of training, including those before a resume."""
        return self.seconds_before + time.perf_counter() - self._started

    @property
    def epoch_seconds(self) -> float:
        """Mean seconds per epoch so far."""
        return self.batches * (time.perf_counter() - self._started) / max(self.batches_seen, 1)

    def left(self, epoch: int, batch: int) -> float:
        """Return the seconds from the end of a batch (epoch and batch from 0) to the end of the run."""
        return self.epoch_seconds * (self.epochs - epoch - (batch + 1) / self.batches)

    def time_limit_reason(self, hours: float | None) -> str:
        """Return why to stop if another epoch would exceed the time limit; empty to continue."""
        if hours is None or self.elapsed + self.epoch_seconds <= hours * 3600:
            return ""
        used, needed = self.elapsed / 3600, self.epoch_seconds / 3600
        return f"{used:.2f} of time={hours:g} hours used; another epoch takes {needed:.2f}."


class EpochProgress:
    """Progress bar of an epoch as a context manager, in a terminal or notebook; elsewhere lines.

    They come at the end of the epoch and, in a longer one, at least every minute if a batch takes less than half of it.
    """

    def __init__(self, names: Sequence[str], clock: RunClock, epoch: int, done: int, device: torch.device) -> None:
        self.names = [name.removesuffix("_loss") for name in names]
        self.clock, self.epoch, self.done, self.device = clock, epoch, done, device
        self._images, self._started, self._text = 0, time.perf_counter(), ""
        self._logged = self._started
        self._epoch = f"{epoch + 1:>{len(str(clock.epochs))}}/{clock.epochs}"
        self._bar = tqdm(
            total=clock.batches,
            initial=done,
            desc=self._epoch,
            disable=None if LOGGER.isEnabledFor(logging.INFO) else True,
            dynamic_ncols=True,
            # a narrow terminal cuts off the end
            bar_format="{desc} {percentage:3.0f}%|{bar:8}| {n_fmt}/{total_fmt}{postfix}",
        )
        self._hidden = self._bar.disable  # closing sets it, too

    def __enter__(self) -> EpochProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._hidden and self._text:
            LOGGER.info(f"{self._epoch}  {self._text}")

    @property
    def needs_losses(self) -> bool:
        """Return whether the next update is displayed; reading the losses synchronizes with the GPU, so only then."""
        if self._hidden:
            due = time.perf_counter() - self._logged >= LINE_SECONDS
        else:
            due = time.time() - self._bar.last_print_t >= self._bar.mininterval
        return due or self.done + 1 >= self.clock.batches

    def update(self, losses: Sequence[float] | None, boxes: int, images: int, size: int) -> None:
        """Count a batch; `losses` are the means of the epoch so far, or None to keep the text."""
        self._images += images
        self.clock.batches_seen += 1
        if losses is not None:
            speed = self._images / max(time.perf_counter() - self._started, 1e-9)
            shown = [f"{name} {value:.3f}" for name, value in zip(self.names, losses, strict=True)]
            left = timedelta(seconds=round(self.clock.left(self.epoch, self.done)))
            shown += [f"left {left}", f"{speed:.1f} img/s", f"{boxes} boxes", f"{size}px"]
            if self.device.type == "cuda":
                shown.append(f"{torch.cuda.memory_reserved(self.device) / 1e9:.1f}G")
            self._text = "  ".join(shown)
            self._bar.set_postfix_str(self._text, refresh=False)
        self.done += 1
        self._bar.update()
        if losses is not None and self._hidden and self.done < self.clock.batches:
            self._logged = time.perf_counter()
            LOGGER.info(f"{self._epoch}  batch {self.done}/{self.clock.batches}  {self._text}")


def optimizer_line(options: Options, model: nn.Module, groups: Sequence[dict], schedule: Schedule) -> str:
    """Describe optimizer, schedule and the parameter group of each column lr/pgN of results.csv for the log."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    names = ", ".join(f"lr/pg{index} {group['name']}" for index, group in enumerate(groups))
    return (
        f"{options.optimizer}: learning rate {options.lr0:g} (backbone x {options.backbone_lr_ratio:g}), "
        f"{schedule.total} steps, {schedule.warmup} of them warm-up; {trained:,} parameters are trained ({names})"
    )


def interruption(state: TrainState) -> str:
    """Describe what an interrupted run has saved, and how to resume it."""
    if not state.args.save:
        return "Training interrupted; nothing was saved (save=False)."
    if state.epoch >= state.epochs:
        return f"Interrupted after the last epoch; the weights are in {state.best}, the final validation was skipped."
    return (
        f"Training interrupted in epoch {state.epoch + 1}, saved in {state.last}. To resume:\n"
        f"  yolo train resume={state.last}\n"
        f"  RTDETR({str(state.last)!r}).train(resume=True)"
    )


def summary(state: TrainState, seconds: float) -> str:
    """Describe a finished run: why it ended, its best epoch, its files, and the commands for what comes next."""
    options, stopper = state.args, state.stopper
    of, stopped = (f" of {state.epochs}", f" Stopped early: {state.stop_reason}") if state.stop_reason else ("", "")
    epochs = f"{state.epoch}{of} epoch{'s' * (state.epochs != 1)}"
    lines = [f"Finished {epochs} in {timedelta(seconds=round(seconds))}.{stopped}"]
    if stopper.best_fitness is None:
        why = "the validation images have no labels" if options.val else "val=False"
        lines.append(f"Best epoch: unknown ({why}); best.pt is the last one.")
    else:
        lines.append(f"Best epoch: {stopper.best_epoch + 1}, with mAP50-95 {stopper.best_fitness:.4f}.")
    lines += [f"In {state.save_dir}:", "  results.csv  metrics of every epoch"]
    if options.save:
        best = stopper.best_epoch + 1 if options.val else state.epoch
        lines += [f"  weights/best.pt  epoch {best}", f"  weights/last.pt  epoch {state.epoch}, to resume from"]
        lines += ["Predict with the best weights:", f"  yolo predict model={state.best} source=path/to/images"]
        lines.append(f"  python detect.py --weights {state.best} --source path/to/images")
    if options.save and state.stop_reason:
        change = "patience=0" if stopper.reason(state.epoch - 1) else "time=HOURS"
        lines += ["Continue with the remaining epochs:", f"  yolo train resume={state.last} {change}"]
    return "\n".join(lines)


def add_plots(callbacks: Callbacks) -> None:
    """Add callbacks that plot the labels, the first training batches and, at the end, the curves of results.csv."""
    callbacks.add("on_train_start", _plot_labels)
    callbacks.add("on_train_batch_end", _plot_batch)
    callbacks.add("on_train_end", lambda trainer: plot_results(trainer.files.results, **trainer.args.figure_style))


def _plot_labels(trainer: Any) -> None:
    labels = trainer.train_loader.dataset.labels
    boxes = np.concatenate([item.boxes for item in labels])
    classes = np.concatenate([item.cls for item in labels])
    plot_labels(boxes, classes, trainer.model.names, trainer.save_dir / "labels.png", **trainer.args.figure_style)


def _plot_batch(trainer: Any) -> None:
    if trainer.epoch == 0 and trainer.batches_done <= 3:
        path = trainer.save_dir / f"train_batch{trainer.batches_done - 1}.jpg"
        plot_images(trainer.batch, path, trainer.model.names)
