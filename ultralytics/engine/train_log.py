"""Log of a training run: progress bar, remaining time, rows of results.csv, summary, plots."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ultralytics.cfg.options import Options
from ultralytics.engine.checkpoint import RunDir
from ultralytics.engine.optim import Schedule
from ultralytics.engine.train_state import TrainState
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.callbacks import Callbacks
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.flops import get_flops
from ultralytics.utils.plotting import plot_images, plot_labels, plot_results
from ultralytics.utils.torch_utils import describe_device


def format_seconds(seconds: float) -> str:
    """Return `0:42`, `12:05` or `3:07:00`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


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


class EpochProgress:
    """Progress bar of an epoch as a context manager; if stderr is not a terminal, one line at the end of the epoch."""

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
            # a narrow terminal cuts off the end
            bar_format="{desc} {percentage:3.0f}%|{bar:8}| {n_fmt}/{total_fmt}{postfix}",
        )

    def __enter__(self) -> EpochProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if not self._terminal and self._text:
            LOGGER.info(f"{self._label}  {self._text}")

    @property
    def needs_losses(self) -> bool:
        """Return whether the next update is displayed; reading the losses synchronizes with the GPU, so only then."""
        bar = self._bar
        return bar.n + 1 >= self.clock.batches or (self._terminal and time.time() - bar.last_print_t >= bar.mininterval)

    def update(self, losses: Sequence[float] | None, boxes: int, images: int, size: int) -> None:
        """Count a batch; `losses` are the means of the epoch so far, or None to keep the text."""
        self._images += images
        self.clock.batches_seen += 1
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
        else:  # a disabled bar does not count
            self._bar.n += 1


def results_row(state: TrainState, seconds: float, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return a row of results.csv: epoch from 1, seconds since the run began, losses, metrics, rate of each group."""
    row = {"epoch": state.epoch + 1, "time": round(seconds, 1)}
    row |= {f"train/{name}": value for name, value in state.losses.items()}
    row |= state.metrics
    return row | {f"lr/pg{index}": group["lr"] for index, group in enumerate(optimizer.param_groups)}


def model_size(network: nn.Module, imgsz: int) -> dict[str, float]:
    """Return `parameters` and, if they can be counted, `GFLOPs` of a network."""
    size = {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    try:
        size["GFLOPs"] = get_flops(network, imgsz)
    except ModelConfigError as error:
        LOGGER.warning(f"The FLOPs of the model could not be counted: {error}")
    return size


def device_line(device: torch.device, dtype: torch.dtype | None, amp: bool) -> str:
    """Describe device, number of processes and precision for the log."""
    several = f", one of {dist.world_size()} processes" if dist.world_size() > 1 else ""
    if dtype is not None:
        precision = f"mixed precision {str(dtype).removeprefix('torch.')}"
    else:
        precision = f"mixed precision off{' (needs CUDA)' if amp else ''}"
    return f"Device: {describe_device(device)}{several}; {precision}"


def optimizer_line(
    options: Options, model: nn.Module, groups: Sequence[dict], schedule: Schedule, per_step: int
) -> str:
    """Describe optimizer, schedule and the parameter group of each column lr/pgN of results.csv for the log."""
    parameters = list(model.parameters())
    trained, total = sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
    names = ", ".join(f"lr/pg{index} {group['name']}" for index, group in enumerate(groups))
    return (
        f"{options.optimizer}: learning rate {options.lr0:g} (backbone x {options.backbone_lr_ratio:g}), "
        f"{schedule.total} steps of {per_step} images, {schedule.warmup} of them warm-up; "
        f"{trained:,} of {total:,} parameters are trained ({names})"
    )


def interruption(state: TrainState, options: Options, files: RunDir) -> str:
    """Describe what an interrupted run has saved, and how to resume it."""
    if not options.save:
        return "Training interrupted; nothing was saved (save=False)."
    if state.epoch >= options.epochs:
        return f"Interrupted after the last epoch; the weights are in {files.best}, the final validation was skipped."
    return (
        f"Training interrupted in epoch {state.epoch + 1}, saved in {files.last}. To resume:\n"
        f"  yolo train resume={files.last}\n"
        f"  RTDETR({str(files.last)!r}).train(resume=True)"
    )


def summary(state: TrainState, options: Options, files: RunDir, seconds: float) -> str:
    """Describe a finished run: why it ended, its best epoch, its files, and the commands for what comes next."""
    epochs = f"{state.epoch} of {options.epochs} epochs" if state.stop_reason else f"{state.epoch} epochs"
    lines = [f"Finished {epochs} in {format_seconds(seconds)}."]
    if state.stop_reason:
        lines[0] += f" Stopped early: {state.stop_reason}"
    if not options.val:
        lines.append("Best epoch: unknown (val=False); best.pt is the last one.")
    elif state.stopper.best_fitness is None:
        lines.append("Best epoch: unknown (the validation images have no labels); best.pt is the last one.")
    else:
        lines.append(f"Best epoch: {state.stopper.best_epoch + 1}, with mAP50-95 {state.stopper.best_fitness:.4f}.")
    lines += [f"In {files.folder}:", "  results.csv  metrics of every epoch"]
    if options.plots:
        lines.append("  *.png, *.jpg  curves, labels, first batches, predictions")
    if options.save:
        best = state.stopper.best_epoch + 1 if options.val else state.epoch
        lines += [f"  weights/best.pt  epoch {best}", f"  weights/last.pt  epoch {state.epoch}, to resume from"]
        lines += ["Predict with the best weights:", f"  yolo predict model={files.best} source=path/to/images"]
        lines.append(f"  python detect.py --weights {files.best} --source path/to/images")
    if options.save and state.stop_reason:
        change = "patience=0" if state.stopper.reason(state.epoch - 1) else "time=HOURS"
        lines += ["Continue with the remaining epochs:", f"  yolo train resume={files.last} {change}"]
    return "\n".join(lines)


FIRST_BATCHES = 3


def add_plots(callbacks: Callbacks) -> None:
    """Add callbacks that plot the labels, the first training batches and, at the end, the curves of results.csv."""
    callbacks.add("on_train_start", _plot_labels)
    callbacks.add("on_train_batch_end", _plot_batch)
    callbacks.add("on_train_end", lambda trainer: plot_results(trainer.files.results))


def _plot_labels(trainer: Any) -> None:
    labels = trainer.train_loader.dataset.labels
    boxes = np.concatenate([item.boxes for item in labels])
    classes = np.concatenate([item.cls for item in labels])
    plot_labels(boxes, classes, trainer.model.names, trainer.save_dir / "labels.png")


def _plot_batch(trainer: Any) -> None:
    if trainer.epoch == 0 and trainer.batches_done <= FIRST_BATCHES:
        path = trainer.save_dir / f"train_batch{trainer.batches_done - 1}.jpg"
        plot_images(trainer.batch, path, trainer.model.names)
