"""Pictures of a training run, in its folder: labels, the first batches as the network sees them, the curves."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.flops import get_flops
from ultralytics.utils.plotting import plot_images, plot_labels, plot_results
from ultralytics.utils.torch_utils import describe_device

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.utils.callbacks import Callbacks


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


def results_row(trainer: BaseTrainer) -> dict[str, float]:
    """A row of results.csv. Epochs count from 1, `time` is seconds since the run began, lr/pgN the group's rate."""
    row = {"epoch": trainer.epoch + 1, "time": round(trainer.elapsed, 1)}
    row |= {f"train/{name}": value for name, value in trainer.losses.items()}
    row |= trainer.metrics
    return row | {f"lr/pg{index}": group["lr"] for index, group in enumerate(trainer.optimizer.param_groups)}


def model_size(network: nn.Module, imgsz: int) -> dict[str, float]:
    """Return `parameters` and, if they can be counted, `GFLOPs` of a network."""
    size = {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    try:
        size["GFLOPs"] = get_flops(network, imgsz)
    except ModelConfigError as error:
        LOGGER.warning(f"The FLOPs of the model could not be counted: {error}")
    return size


def device(trainer: BaseTrainer) -> str:
    """On what the run computes, and how."""
    several = f", one of {dist.world_size()} processes" if dist.world_size() > 1 else ""
    if trainer.dtype is not None:
        precision = f"mixed precision {str(trainer.dtype).removeprefix('torch.')}"
    else:
        precision = f"mixed precision off{' (it needs CUDA)' if trainer.args.amp else ''}"
    return f"Device: {describe_device(trainer.device)}{several}; {precision}"


def optimization(trainer: BaseTrainer) -> str:
    """The optimiser, its schedule, and which group of parameters each column lr/pgN of results.csv is about."""
    options = trainer.args
    parameters = list(trainer.model.parameters())
    trained, total = sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
    groups = (f"lr/pg{index} {group['name']}" for index, group in enumerate(trainer.optimizer.param_groups))
    return (
        f"{options.optimizer}: learning rate {options.lr0:g} (backbone x {options.backbone_lr_ratio:g}), "
        f"{trainer.warmup} steps of warm-up of {trainer.total_updates} in all, "
        f"{options.batch * trainer.accumulate} images a step; {trained:,} of {total:,} parameters train "
        f"({', '.join(groups)})"
    )


def interruption(trainer: BaseTrainer) -> str:
    """What Ctrl-C has left behind, and how to go on."""
    if not trainer.args.save:
        return "Training interrupted; nothing was kept, as save=False says."
    if trainer.epoch >= trainer.epochs:
        return f"Interrupted after the last epoch; the weights are in {trainer.best}, the final validation is left out."
    return (
        f"Training interrupted in epoch {trainer.epoch + 1}, saved in {trainer.last}. To go on:\n"
        f"  yolo train resume={trainer.last}\n"
        f"  RTDETR({str(trainer.last)!r}).train(resume=True)"
    )


def summary(trainer: BaseTrainer) -> str:
    """Why the run ended, which epoch was best, what is in its folder and what to do with it."""
    return "\n".join([_end(trainer), _best(trainer), *_files(trainer), *_next_steps(trainer)])


def _end(trainer: BaseTrainer) -> str:
    took = f"{trainer.epoch} of {trainer.epochs} epochs in {format_seconds(trainer.elapsed)}"
    return f"{took}. Ended early: {trainer.stop_reason}" if trainer.stop_reason else f"{took}: all that were asked for."


def _best(trainer: BaseTrainer) -> str:
    stopper = trainer.stopper
    if not trainer.args.val:
        return "Best epoch: not known, as val=False says; best.pt is the last one."
    if stopper.best_fitness is None:
        return "Best epoch: not known, as the validation images have no labels; best.pt is the last one."
    return f"Best epoch: {stopper.best_epoch + 1}, with mAP50-95 {stopper.best_fitness:.4f}."


def _files(trainer: BaseTrainer) -> list[str]:
    lines = [f"In {trainer.save_dir}:", "  results.csv  every epoch"]
    if trainer.args.plots:
        lines.append("  *.png, *.jpg  curves, labels, first batches, predictions")
    if trainer.args.save:
        best = f"epoch {trainer.stopper.best_epoch + 1}" if trainer.args.val else f"epoch {trainer.epoch}"
        lines += [f"  weights/best.pt  {best}", f"  weights/last.pt  epoch {trainer.epoch}, to go on training"]
    return lines


def _next_steps(trainer: BaseTrainer) -> list[str]:
    if not trainer.args.save:
        return []
    lines = [
        "Detect with the best weights:",
        f"  yolo predict model={trainer.best} source=path/to/images",
        f"  python detect.py --weights {trainer.best} --source path/to/images",
    ]
    if trainer.stop_reason:
        change = "patience=0" if trainer.stopper.reason(trainer.epoch - 1) else "time=HOURS"
        lines += ["Go on with the epochs that are left:", f"  yolo train resume={trainer.last} {change}"]
    return lines


FIRST_BATCHES = 3


def add_plots(callbacks: Callbacks) -> None:
    """Draw while training runs, through the same events that users have."""
    callbacks.add("on_train_start", _draw_labels)
    callbacks.add("on_train_batch_end", _draw_batch)
    callbacks.add("on_train_end", _draw_results)


def _draw_labels(trainer: BaseTrainer) -> None:
    labels = trainer.train_loader.dataset.labels
    boxes = np.concatenate([item.boxes for item in labels])
    classes = np.concatenate([item.cls for item in labels])
    plot_labels(boxes, classes, trainer.model.names, trainer.save_dir / "labels.png")


def _draw_batch(trainer: BaseTrainer) -> None:
    if trainer.epoch == 0 and trainer.batches_done <= FIRST_BATCHES:
        path = trainer.save_dir / f"train_batch{trainer.batches_done - 1}.jpg"
        plot_images(trainer.batch, path, trainer.model.names)


def _draw_results(trainer: BaseTrainer) -> None:
    plot_results(trainer.files.results)
