"""Going on after something went wrong in a training step: numbers that are not finite, and too little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ultralytics.engine import run_state
from ultralytics.engine.progress import RunClock
from ultralytics.engine.stopping import NonFinite, NonFiniteLossError
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import UserError

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer

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
    run_state.put_back(trainer, dist.from_main(trainer.good_state() if trainer.is_main else None))
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
