"""Going on after something went wrong in a training step: numbers that are not finite, and too little memory."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from types import FrameType
from typing import TYPE_CHECKING

import torch

from ultralytics.engine.train_log import RunClock
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import OptionError, UserError

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer


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


def take_state(trainer: BaseTrainer) -> dict:
    """The checkpoint: weights, and all that a resumed run needs to end where an uninterrupted one would.

    Random numbers are not in it: they are a function of seed, epoch and batch.
    """
    return {
        "model_yaml": trainer.model.yaml,
        "names": trainer.model.names,
        "nc": trainer.model.nc,
        "model": trainer.model.state_dict(),
        "ema": trainer.ema.ema.state_dict(),
        "ema_updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": {"updates": trainer.updates, "rate_scale": trainer.rate_scale},
        "scaler": trainer.scaler.state_dict() if trainer.scaler.is_enabled() else None,
        "epoch": trainer.epoch - 1,
        "batches_done": trainer.batches_done,
        "loss_sum": trainer.loss_sum,
        "best_fitness": trainer.stopper.best_fitness,
        "best_epoch": trainer.stopper.best_epoch,
        "seconds": trainer.elapsed,
        "options": trainer.args.to_dict(),
        "metrics": trainer.metrics,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def put_back(trainer: BaseTrainer, state: dict) -> None:
    """Bring a trainer that is set up to where `take_state` found the other."""
    trainer.epoch, trainer.batches_done = state["epoch"] + 1, state["batches_done"]
    trainer.model.load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["ema"])
    trainer.ema.updates = state["ema_updates"]
    trainer.optimizer.load_state_dict(state["optimizer"])
    if state["scaler"] and trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(state["scaler"])
    trainer.updates, trainer.rate_scale = state["scheduler"]["updates"], state["scheduler"].get("rate_scale", 1.0)
    trainer.loss_sum = state["loss_sum"].to(trainer.device, copy=True)
    trainer.mark_step()
    trainer.stopper.best_fitness, trainer.stopper.best_epoch = state["best_fitness"], state["best_epoch"]
    trainer.metrics = dict(state["metrics"])


def resume(trainer: BaseTrainer, state: dict) -> None:
    """Go on with an earlier run. Raises OptionError when it has no epochs left."""
    if state["epoch"] + 1 >= trainer.epochs:
        raise OptionError(
            f"{trainer.args.resume}: this run has done its {trainer.epochs} epochs; to go on, give more, such as "
            f"epochs={trainer.epochs * 2}."
        )
    put_back(trainer, state)
    trainer.seconds_before = state["seconds"]
    if not trainer.best.exists():  # the checkpoint was moved away from its run: a best of this folder is needed
        trainer.stopper.best_fitness, trainer.stopper.best_epoch = None, trainer.epoch - 1
    LOGGER.info(f"Resuming {trainer.args.resume} in epoch {trainer.epoch + 1}, batch {trainer.batches_done + 1}")


def on_cpu(value: object) -> object:
    """A copy of plain data whose tensors are on the CPU and are not the ones that training changes."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(item) for item in value)
    return value


RECOVERY_RATE = 0.5  # of the learning rate after numbers that were not finite


class OutOfMemoryError(UserError):
    """The memory of the device does not hold the training, and half the batch did not help or was not to be had."""


def require_finite(trainer: BaseTrainer, value: torch.Tensor, what: str, items: torch.Tensor | None = None) -> None:
    """Raise NonFinite in every process if `value` is not finite in one; `items` are the parts of the loss."""
    # Looking costs nothing: the matcher has waited for the device already.
    finite = bool(torch.isfinite(value))
    if not dist.any_rank(not finite, trainer.device):
        return
    if finite:
        raise NonFinite(f"{what} is not finite in another process")
    parts = [] if items is None else [f"{n} {v:.3g}" for n, v in zip(trainer.loss_names, items, strict=True)]
    listed = f" ({', '.join(parts)})" if parts else ""
    raise NonFinite(f"{what} is {float(value.detach())}{listed}")


def go_back(trainer: BaseTrainer, failure: NonFinite) -> None:
    """Go back to the last good state at a lower rate; the second time, keep the batch and raise NonFiniteLossError.

    The same batch comes again: if it is the cause, it is the one that is kept.
    """
    rate = trainer.args.lr0 * trainer.learning_rate_factor() * trainer.rate_scale
    where = f"{_place(trainer)}: {failure} at learning rate {rate:.2g}"
    if trainer.rate_scale < 1:
        file = trainer.files.save_batch(trainer.batch, trainer.rank)
        raise NonFiniteLossError(
            f"{where}, for the second time. The batch is in {file}, the last good state in "
            f"{trainer.last if trainer.args.save else '(save=False: none)'}. Look at the batch's images and labels; "
            f"try a lower lr0 (now {trainer.args.lr0:g}){' or amp=False' if trainer.dtype else ''}."
        )
    put_back(trainer, dist.from_main(trainer.good_state() if trainer.is_main else None))
    trainer.start_group()
    trainer.rate_scale = RECOVERY_RATE
    if trainer.is_main:
        trainer.files.keep_results(trainer.epoch)
    LOGGER.warning(
        f"{where}. Going on from the last good state, {_place(trainer).lower()}, at "
        f"{RECOVERY_RATE:g} of the learning rate; should it happen again, the run ends."
    )


def halve_batch(trainer: BaseTrainer) -> None:
    """After a step that ran out of memory: the same images in the same order in batches of half the size.

    Gradients are summed over twice as many batches, so a step of the optimiser has the images it had. What the step
    under way has summed is thrown away, and its images come again; statistics of BatchNorm that it moved stay.

    Raises OutOfMemoryError the second time, when the batch is one image, and in a run of several processes.
    """
    before, per_step = trainer.args.batch, trainer.args.batch * trainer.accumulate
    where = _place(trainer)
    if trainer.batch_was_halved or before == 1 or dist.world_size() > 1:
        raise OutOfMemoryError(memory_advice(trainer, where))
    # Of an odd batch the largest part that divides it, so that the steps begin at the same images as before.
    batch = next(size for size in range(before // 2, 0, -1) if before % size == 0)
    parts = before // batch
    trainer.start_group()
    trainer.args = trainer.args.replace(batch=batch, nbs=per_step)
    trainer.batch_was_halved, trainer.accumulate = True, trainer.accumulate * parts
    trainer.batches_done *= parts
    trainer.loss_sum *= parts
    trainer.mark_step()
    trainer.batch = None
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()
    trainer.train_loader, trainer.val_loader = trainer.build_loaders()
    trainer.validator = trainer.build_validator(plots=False)
    trainer.seconds_before, trainer.clock = trainer.elapsed, RunClock(trainer.epochs, len(trainer.train_loader))
    trainer.files.create(trainer.args.to_dict())
    trainer.keep_state()  # the state kept before counts batches of the old size
    LOGGER.warning(
        f"{where}: out of memory with batch={before}. Going on with batch={batch} and gradients summed over "
        f"{trainer.accumulate} batches: a step has {per_step} images as before, in the same order. Should it happen "
        "again, the run ends."
    )


@contextmanager
def memory_explained(trainer: BaseTrainer) -> Iterator[None]:
    """Say what to do when the device runs out of memory in a place where the batch is not halved."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemoryError(memory_advice(trainer, f"Epoch {trainer.epoch + 1}")) from error


def memory_advice(trainer: BaseTrainer, where: str) -> str:
    """Where the memory ran out, and what to change, with the present values."""
    options = trainer.args
    again = " again, after the batch was halved once," if trainer.batch_was_halved else ""
    smaller = []
    if options.batch > dist.world_size():
        smaller.append(f"a smaller batch (now {options.batch}; nbs={options.nbs} keeps the images a step)")
    largest = ", and up to a quarter more with multi_scale" if options.multi_scale else ""
    smaller.append(f"a smaller imgsz (now {options.imgsz}{largest})")
    smaller.append("fewer queries= or denoising=")
    if trainer.dtype is None and trainer.device.type == "cuda":
        smaller.append("amp=True")
    smaller.append("a smaller model")
    message = (
        f"{where}: the memory of {trainer.device} ran out{again} with batch={options.batch}"
        f"{f' on {dist.world_size()} devices' if dist.world_size() > 1 else ''}. In a new run, try "
        f"{', '.join(smaller)}. Does another program use the device (nvidia-smi)?"
    )
    last = getattr(trainer, "last", None)
    if last is None or not last.exists() or dist.world_size() > 1 or options.batch == 1:
        return message
    return f"{message} To go on with this run, in which the batch may be halved again: yolo train resume={last}"


def _place(trainer: BaseTrainer) -> str:
    return f"Epoch {trainer.epoch + 1}, batch {trainer.batches_done + 1}"
