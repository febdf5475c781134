"""What a training run tells in numbers and words: a row of results.csv for each epoch, and its last lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultralytics.engine.progress import format_seconds
from ultralytics.utils import dist
from ultralytics.utils.torch_utils import describe_device

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer


def results_row(trainer: BaseTrainer) -> dict[str, float]:
    """A row of results.csv. Epochs count from 1, `time` is seconds since the run began, lr/pgN the group's rate."""
    row = {"epoch": trainer.epoch + 1, "time": round(trainer.elapsed, 1)}
    row |= {f"train/{name}": value for name, value in trainer.losses.items()}
    row |= trainer.metrics
    return row | {f"lr/pg{index}": group["lr"] for index, group in enumerate(trainer.optimizer.param_groups)}


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
