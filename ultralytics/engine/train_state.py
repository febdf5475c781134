"""State of a training run: progress, best result, early stopping, interruption, and the errors that end a run."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.cfg.options import Options
from ultralytics.data.build import killed_worker
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import DataError, UserError, counted, out_of_memory, typed
from ultralytics.utils.torch_utils import ModelEMA

TIME_LIMIT = "resume it with more time=."  # end of the reason why a run stops that may continue


class NonFinite(ArithmeticError):
    """A loss, gradient, weight or statistic is NaN or infinite; `BaseTrainer.rollback` handles it."""


class NonFiniteLossError(UserError):
    """The loss, the gradient or the weights became NaN or infinite, and a rollback did not help."""


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted and its state saved. The message contains the command to resume."""


class EarlyStopping:
    """Stop a run whose fitness has not improved for `patience` epochs; 0 disables it."""

    def __init__(self, patience: int = 50) -> None:
        self.patience = patience
        self.best_fitness: float | None = None
        self.best_epoch = -1
        self.possible_stop = False

    def __call__(self, epoch: int, fitness: float | None) -> bool:
        """Record the fitness of an epoch, None without validation; return whether to stop. See also `possible_stop`."""
        if fitness is None:
            return False
        self.update(epoch, fitness)
        self.possible_stop = bool(self.patience) and epoch - self.best_epoch >= self.patience - 1
        return bool(self.reason(epoch))

    def update(self, epoch: int, fitness: float) -> bool:
        """Record the fitness of an epoch (from 0), nan without labels; return True if best, or while all are 0."""
        if is_best := not self.best_fitness or fitness > self.best_fitness:
            self.best_fitness, self.best_epoch = None if math.isnan(fitness) else fitness, epoch
        return is_best

    def reason(self, epoch: int) -> str:
        """Return why to stop after this epoch; empty to continue."""
        waited = epoch - self.best_epoch
        if not self.patience or self.best_fitness is None or waited < self.patience:
            return ""
        return (
            f"no improvement for {counted(waited, 'epoch')} (patience={self.patience}): the best fitness, "
            f"{self.best_fitness:.4f}, was reached in epoch {self.best_epoch + 1}; patience=0 disables early stopping."
        )


class NamedItems(Tensor):
    """Loss terms (n,), also a mapping by their names, as callbacks read them."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # what is computed from it has no names
    terms: Sequence[str]
    values = Tensor.unbind

    @classmethod
    def of(cls, values: Tensor | Mapping[str, Tensor], names: Sequence[str] = ()) -> NamedItems:
        """Return terms with their names; a mapping is of the loss of a script."""
        items = (torch.stack([*values.values()]) if isinstance(values, Mapping) else values).as_subclass(cls)
        items.terms = names
        return items

    def __deepcopy__(self, memo: dict) -> NamedItems:
        return self.of(self.clone(), self.terms)

    def keys(self) -> Sequence[str]:
        """Return the names."""
        return self.terms

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """Return the terms with their names."""
        return zip(self.terms, self.unbind(), strict=True)

    def __getitem__(self, key: Any) -> Tensor:
        return super().__getitem__(self.terms.index(key) if isinstance(key, str) else key)


class TrainState:
    """State of a run, which checkpoints save and restore, and which logs and callbacks read. The trainer extends it."""

    save_dir: Path
    device: torch.device
    model: nn.Module
    ema: ModelEMA
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    loss_sum: Tensor  # (losses,) sum over the batches of this epoch

    @property
    def trust(self) -> str:
        """Return what a command for the weights of this run ends with: ' trust=True' if they record module folders."""
        return " trust=True" if getattr(getattr(self, "model", None), "yaml", {}).get("modules") else ""

    def __init__(self, args: Options) -> None:
        self.args = args
        self.best: Path | None = None
        self.last: Path | None = None
        self.stopper = EarlyStopping(args.patience)
        self.epochs = args.epochs
        self.epoch = 0  # current epoch, from 0; after the run its last one
        self.finished_epochs = 0
        self.batches_done = 0  # batches of this epoch
        self.updates = 0  # optimizer steps since the run began
        self.skipped = 0  # optimizer steps that the gradient scaler skipped because of an overflow
        self.rate_scale = 1.0  # factor on the learning rate; lowered by a rollback
        self.start_epoch = 0  # of this process; later in a resumed run
        self.loss: Tensor | None = None  # of the last batch, and its logged terms
        self.loss_items: Tensor | None = None
        self.losses: dict[str, float] = {}  # mean losses of the last epoch
        self.metrics: dict[str, float] = {}  # of the last validation
        self.fitness: float | None = None
        self.best_fitness: float | None = None
        self.seconds = 0.0  # of training when the last checkpoint was saved
        self.environment: dict[str, Any] = {}  # versions, commit, machine, command, fingerprints of the data
        self._scheduler: Any = None  # of a script, in place of the learning rates of the options
        self.stop_reason = ""  # why the run stops before its last epoch

    @property
    def batch_size(self) -> int:
        """Return the images of a batch of all ranks together."""
        return self.args.batch

    @property
    def wdir(self) -> Path:
        """Return the folder of the weights."""
        return self.save_dir / "weights"

    @property
    def csv(self) -> Path:
        """Return the file with the metrics of every epoch."""
        return self.save_dir / "results.csv"

    @property
    def scheduler(self) -> Any:
        """Return what callbacks read of a scheduler: `get_last_lr()` and `last_epoch`; or the one that a script set."""
        return self._scheduler or SimpleNamespace(get_last_lr=lambda: [*self.lr.values()], last_epoch=self.epoch)

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    @property
    def lr(self) -> dict[str, float]:
        """Return the learning rate of each parameter group."""
        return {f"lr/pg{index}": group["lr"] for index, group in enumerate(self.optimizer.param_groups)}

    def label_loss_items(
        self, loss_items: Sequence[float] | Mapping[str, float] | None = None, prefix: str = "train"
    ) -> Any:
        """Return loss terms by the name of their column, or the names without terms."""
        names = [f"{prefix}/{name}" for name in self.loss_names]
        if loss_items is None:
            return names
        values = loss_items.values() if hasattr(loss_items, "values") else loss_items
        return dict(zip(names, (round(float(value), 5) for value in values), strict=True))

    @property
    def stop(self) -> bool:
        """Return whether the run ends after this epoch; callbacks may set it."""
        return bool(self.stop_reason)

    @stop.setter
    def stop(self, value: bool) -> None:
        self.stop_reason = (self.stop_reason or "a callback has set trainer.stop.") if value else ""

    @property
    def is_done(self) -> bool:
        """Return whether the run is complete, and has not only used up its `time`."""
        return not self.stop_reason.endswith(TIME_LIMIT)

    @property
    def place(self) -> str:
        """Return epoch and batch for messages, from 1."""
        return f"Epoch {self.finished_epochs + 1}, batch {self.batches_done + 1}"

    @property
    def mean_losses(self) -> Tensor:
        """Mean losses over the batches of this epoch so far, (losses,)."""
        return self.loss_sum / max(self.batches_done, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return a checkpoint, to end bit-exactly as uninterrupted; random states derive from seed, epoch and batch."""
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
            "epoch": self.finished_epochs - 1,  # the last finished one
            "batches_done": self.batches_done,
            "loss_sum": self.loss_sum,
            "best_fitness": self.stopper.best_fitness,
            "best_epoch": self.stopper.best_epoch,
            "seconds": self.seconds,
            "options": self.args.to_dict(),
            "metrics": self.metrics,
            "train_metrics": {**self.metrics, "fitness": self.fitness},  # published name
            "environment": self.environment,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a checkpoint; gradients accumulated so far are dropped."""
        is_complete = saved["optimizer"] is not None  # else a finished run that is extended
        self.model.load_state_dict(saved["model"], strict=is_complete)
        self.ema.ema.load_state_dict(saved["ema"] or saved["model"])
        self.ema.updates = saved["ema_updates"]
        if is_complete:
            self.optimizer.load_state_dict(saved["optimizer"])
        else:
            LOGGER.warning("The checkpoint has averaged weights only (save_optimizer=False): the optimizer starts new.")
        self.optimizer.zero_grad(set_to_none=True)
        # a new scaler, as the old one may be in the middle of a step
        self.scaler = torch.amp.GradScaler(self.loss_sum.device.type, enabled=self.scaler.is_enabled())
        if saved["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(saved["scaler"])
        self.start_epoch = self.finished_epochs = self.epoch = saved["epoch"] + 1
        self.batches_done = saved["batches_done"]
        self.loss_sum = saved["loss_sum"].to(self.loss_sum.device, copy=True)
        self.updates, self.rate_scale = saved["scheduler"]["updates"], saved["scheduler"]["rate_scale"]
        self.stopper.best_fitness, self.stopper.best_epoch = saved["best_fitness"], saved["best_epoch"]
        self.best_fitness, self.metrics, self.seconds = saved["best_fitness"], dict(saved["metrics"]), saved["seconds"]


def check_finite(value: Tensor, what: str, losses: Mapping[str, Tensor] | None = None) -> None:
    """Raise NonFinite on all ranks if the scalar `value` is not finite on one; `losses` are shown in the message."""
    finite = bool(torch.isfinite(value))  # no extra wait: the matcher has already synchronized with the device
    if dist.any_rank(not finite, value.device):
        parts = ", ".join(f"{name} {loss:.3g}" for name, loss in (losses or {}).items())
        where = " (on another rank)" if finite else ""
        raise NonFinite(f"{what} is {float(value.detach())}{f' ({parts})' if parts else ''}{where}")


def explain_failure(state: TrainState, error: Exception) -> UserError | None:
    """Build the error to show for memory that ran out or a data worker that was killed; None for other errors."""
    if killed := killed_worker(error, state.args.workers):
        error = killed
    if isinstance(error, DataError) and "data worker was killed" in str(error):
        message = f"{state.place}: {error}."
        if state.last and state.last.exists():
            message += (
                f" {state.last} is whole. To resume: yolo train {typed(resume=state.last)}{state.trust} workers=0"
            )
        return UserError(message)
    return explain_oom(state) if out_of_memory(error) else None


def explain_oom(state: TrainState) -> UserError:
    """Build the error for a device that ran out of memory, with the options to change and the command to resume."""
    batch, world = state.args.batch, dist.world_size()
    message = (
        f"{state.place}: {state.device} is out of memory with batch={batch}. Try a smaller batch, a smaller imgsz (now "
        f"{state.args.imgsz}), amp=True or a smaller model."
    )
    if batch > world and state.last and state.last.exists():
        smaller = max(batch // 2 // world, 1) * world
        command = f"yolo train {typed(resume=state.last)}{state.trust} batch={smaller}"
        message += f" To continue this run with a smaller batch: {command}"
    return UserError(message)


class Interrupt:
    """Turn the first SIGINT (Ctrl-C) or SIGTERM (cluster) in a block into `requested`; the second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._time = 0.0  # of the first signal, seconds
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # only it can handle signals
            self._previous = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a data worker, which has inherited the handler: the trainer decides
            return
        if not self.requested:
            self.requested, self._time = True, time.monotonic()
            LOGGER.warning("Interrupted: finishing this step, then saving. Press Ctrl-C again to stop at once.")
        elif time.monotonic() - self._time > 1.0:  # sooner it is the same signal, forwarded by torchrun
            raise KeyboardInterrupt
