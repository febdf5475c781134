"""State of a training run: progress, best result, early stopping, interruption, and the errors that end a run."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.cfg.options import Options
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import UserError
from ultralytics.utils.torch_utils import ModelEMA


class NonFinite(ArithmeticError):
    """A loss, gradient or weight is NaN or infinite; the optimizer step was not taken."""


class NonFiniteLossError(UserError):
    """The loss, the gradient or the weights became NaN or infinite, and a rollback did not help."""


class OutOfMemoryError(UserError):
    """The device has too little memory for the training."""


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted and its state saved. The message contains the command to resume."""


class EarlyStopping:
    """Stop a run whose fitness has not improved for `patience` epochs; 0 disables it."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_fitness: float | None = None
        self.best_epoch = -1

    def update(self, epoch: int, fitness: float) -> bool:
        """Record the fitness of an epoch (from 0). Return True if it is the best so far.

        nan (no labels to validate on) is never an improvement; until there is a number, the newest epoch is the best.
        """
        if math.isnan(fitness):
            self.best_epoch = epoch if self.best_fitness is None else self.best_epoch
            return self.best_fitness is None
        if self.best_fitness is not None and fitness <= self.best_fitness:
            return False
        self.best_fitness, self.best_epoch = fitness, epoch
        return True

    def reason(self, epoch: int) -> str:
        """Return why to stop after this epoch; empty to continue."""
        waited = epoch - self.best_epoch
        if not self.patience or self.best_fitness is None or waited < self.patience:
            return ""
        return (
            f"no improvement for {waited} epochs (patience={self.patience}): the best fitness, "
            f"{self.best_fitness:.4f}, was reached in epoch {self.best_epoch + 1}; patience=0 disables early stopping."
        )


def time_limit_reason(elapsed: float, epoch_seconds: float, limit_hours: float | None) -> str:
    """Return why to stop if another epoch would exceed the time limit; empty to continue. Times in seconds."""
    if limit_hours is None or elapsed + epoch_seconds <= limit_hours * 3600:
        return ""
    return f"{elapsed / 3600:.2f} of time={limit_hours:g} hours used; another epoch takes {epoch_seconds / 3600:.2f}."


@dataclass
class TrainState:
    """State of a run, which checkpoints save and restore, and which logs and callbacks read."""

    stopper: EarlyStopping
    loss_sum: Tensor  # (losses,) sum over the batches of this epoch
    epoch: int = 0  # current epoch, from 0
    batches_done: int = 0  # batches of this epoch
    updates: int = 0  # optimizer steps since the run began
    skipped: int = 0  # optimizer steps that the gradient scaler skipped because of an overflow
    rate_scale: float = 1.0  # factor on the learning rate; lowered by a rollback
    losses: dict[str, float] = field(default_factory=dict)  # mean losses of the last epoch
    metrics: dict[str, float] = field(default_factory=dict)  # of the last validation
    fitness: float | None = None
    best_fitness: float | None = None
    seconds: float = 0.0  # of training when the last checkpoint was saved
    stop_reason: str = ""  # why the run stops before its last epoch
    # set when the run is set up
    model: nn.Module | None = None
    ema: ModelEMA | None = None
    optimizer: torch.optim.Optimizer | None = None
    scaler: torch.amp.GradScaler | None = None

    @property
    def place(self) -> str:
        """Return epoch and batch for messages, from 1."""
        return f"Epoch {self.epoch + 1}, batch {self.batches_done + 1}"

    @property
    def mean_losses(self) -> Tensor:
        """Mean losses over the batches of this epoch so far, (losses,)."""
        return self.loss_sum / max(self.batches_done, 1)

    def state_dict(self, options: Options) -> dict[str, Any]:
        """Return a checkpoint: all that a resumed run needs to end bit-exactly like an uninterrupted one.

        Random states are not included: they are derived from seed, epoch and batch.
        """
        return {
            "model_yaml": self.model.yaml,
            "names": self.model.names,
            "nc": self.model.nc,
            "model": self.model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {"updates": self.updates, "rate_scale": self.rate_scale},
            "scaler": self.scaler.state_dict() if self.scaler.is_enabled() else None,
            "epoch": self.epoch - 1,  # the last finished one
            "batches_done": self.batches_done,
            "loss_sum": self.loss_sum,
            "best_fitness": self.stopper.best_fitness,
            "best_epoch": self.stopper.best_epoch,
            "seconds": self.seconds,
            "options": options.to_dict(),
            "metrics": self.metrics,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a checkpoint; gradients accumulated so far are dropped."""
        self.model.load_state_dict(saved["model"])
        self.ema.ema.load_state_dict(saved["ema"])
        self.ema.updates = saved["ema_updates"]
        self.optimizer.load_state_dict(saved["optimizer"])
        self.optimizer.zero_grad(set_to_none=True)
        # a new scaler, as the old one may be in the middle of a step
        self.scaler = torch.amp.GradScaler(self.loss_sum.device.type, enabled=self.scaler.is_enabled())
        if saved["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(saved["scaler"])
        self.epoch, self.batches_done = saved["epoch"] + 1, saved["batches_done"]
        self.loss_sum = saved["loss_sum"].to(self.loss_sum.device, copy=True)
        self.updates, self.rate_scale = saved["scheduler"]["updates"], saved["scheduler"].get("rate_scale", 1.0)
        self.stopper.best_fitness, self.stopper.best_epoch = saved["best_fitness"], saved["best_epoch"]
        self.best_fitness, self.metrics, self.seconds = saved["best_fitness"], dict(saved["metrics"]), saved["seconds"]


def check_finite(value: Tensor, what: str, losses: Mapping[str, Tensor] | None = None) -> None:
    """Raise NonFinite on all ranks if the scalar `value` is not finite on one; `losses` are shown in the message."""
    finite = bool(torch.isfinite(value))  # no extra wait: the matcher has already synchronized with the device
    if not dist.any_rank(not finite, value.device):
        return
    if finite:
        raise NonFinite(f"{what} is not finite on another rank")
    parts = ", ".join(f"{name} {loss:.3g}" for name, loss in (losses or {}).items())
    raise NonFinite(f"{what} is {float(value.detach())}{f' ({parts})' if parts else ''}")


def explain_oom(place: str, options: Options, device: torch.device, last: Path | None) -> OutOfMemoryError:
    """Build the error for a device that ran out of memory, with the options to change and the command to resume."""
    world = dist.world_size()
    advice = [f"a smaller imgsz (now {options.imgsz}{', +25 % with multi_scale' if options.multi_scale else ''})"]
    if options.batch > world:
        advice.insert(0, f"a smaller batch (now {options.batch}; nbs={options.nbs} keeps the images per step)")
    advice.append("fewer queries= or denoising=")
    if device.type == "cuda" and not options.amp:
        advice.append("amp=True")
    message = (
        f"{place}: {device} is out of memory with batch={options.batch}{f' on {world} devices' if world > 1 else ''}. "
        f"Try {', '.join(advice)} or a smaller model; check with nvidia-smi whether another program uses the device."
    )
    if last is not None and last.exists() and options.batch > world:
        smaller = max(options.batch // 2 // world, 1) * world
        message += f" To continue this run with a smaller batch: yolo train resume={last} batch={smaller}"
    return OutOfMemoryError(message)


class Interrupt:
    """Signal handler that records the first Ctrl-C; the trainer checks it after each optimizer step."""

    def __init__(self) -> None:
        self.requested = False
        self._first = 0.0  # time of the first signal, seconds
        self._process = os.getpid()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record a signal; raise KeyboardInterrupt for the second one."""
        if os.getpid() != self._process:  # a data worker, which has inherited the handler: the trainer decides
            return
        if not self.requested:
            self.requested, self._first = True, time.monotonic()
            LOGGER.warning("Interrupted: finishing this step, then saving. Press Ctrl-C again to stop at once.")
        elif time.monotonic() - self._first > 1.0:  # sooner it is the same signal, forwarded by torchrun
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Turn SIGINT (Ctrl-C) and SIGTERM (cluster) into a request while the block runs; main thread only."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():  # only it may set signal handlers
        yield interrupt
        return
    previous = {number: signal.signal(number, interrupt.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
