"""What a checkpoint takes from a training run, and how a run goes on from it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import torch

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import OptionError

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer


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
