"""Folder and log of a training run: checkpoints, results.csv, lock, progress bar, remaining time, summary, plots."""

from __future__ import annotations

import csv
import logging
import math
import os
import platform
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn
from tqdm.auto import tqdm

from ultralytics.cfg.options import Options
from ultralytics.engine.checkpoint import load_checkpoint, save_checkpoint
from ultralytics.engine.optim import Schedule
from ultralytics.engine.train_state import TrainState
from ultralytics.utils import LINE_SECONDS, LOGGER
from ultralytics.utils.callbacks import Callbacks
from ultralytics.utils.errors import UserError, WeightsError, counted, typed
from ultralytics.utils.files import UNFINISHED, atomic_write, first_line, increment_path, lock_file, write_text
from ultralytics.utils.tables import Column, Table, read_csv

# What a training, its validation and its loggers write; other files in the folder are left where they are
RUN_FILES = (
    "weights", "args.yaml", "results*.csv", "results.*", "labels.*", "train_batch*.*", "val_batch*.*", "*_curve.*",
    "confusion_matrix*.*", "predictions.json", "non_finite*.pt", "summary_table.*", "events.out.tfevents*",
)  # fmt: skip


class RunDir:
    """Paths in a run folder, and functions that write its files atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights"
        self.last = self.weights / "last.pt"
        self.best = self.weights / "best.pt"
        self.results = folder / "results.csv"
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Exclude other processes and trainers from this run until `unlock` or the end of the process, however it ends.

        Raises UserError if another training is in progress in the folder, or if nothing can be written there.
        """
        name = self.folder / ".lock"
        if self.folder.resolve() in _locked():  # the system's lock excludes other processes only
            raise UserError(f"{self.folder}: another training of this process is in progress in this run folder.")
        try:
            self.weights.mkdir(parents=True, exist_ok=True)
            file = open(name, "a+")  # noqa: SIM115 - open as long as the run
            if not lock_file(file):
                file.seek(0)
                raise UserError(
                    f"{self.folder}: another process trains in this run folder ({file.read()}). Wait until it has "
                    "finished or end it; for a second run choose another name=."
                )
            if not name.exists() or not os.path.samestat(os.fstat(file.fileno()), name.stat()):
                return self.lock()  # `unlock` of another process has just removed the file
            self._lock = file
            _locked().add(self.folder.resolve())
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            for folder in (self.folder, self.weights):
                for left in folder.glob(f".*{UNFINISHED}"):  # by a process that was killed while it wrote
                    left.unlink()
        except OSError as error:
            raise UserError(f"{self.folder}: cannot write into the run folder ({error.strerror})") from error

    def unlock(self) -> None:
        """Let other processes use the run folder."""
        if self._lock:
            with suppress(OSError):
                os.unlink(self._lock.name)
            self._lock.close()
            self._lock = None
            _locked().discard(self.folder.resolve())

    def save(self, state: dict, *, best: bool, numbered: bool) -> None:
        """Write last.pt and, if asked for, best.pt and epochN.pt (N from 1), with the columns of results.csv."""
        state = {**state, "train_results": self._columns()}
        if best:
            save_checkpoint(self.best, state)
        if numbered:
            save_checkpoint(self.weights / f"epoch{state['epoch'] + 1}.pt", state)
        save_checkpoint(self.last, state)  # at the end: a process killed before resumes from the previous one

    def finish(self, *, strip: bool) -> None:
        """Mark best.pt and last.pt as finished; `strip` reduces them to the averaged weights, a quarter of the size."""
        updates = {"finished": True, "train_results": self._columns()}
        for file in filter(Path.exists, (self.best, self.last)):
            if strip:
                strip_optimizer(file, updates=updates)
            else:
                save_checkpoint(file, load_checkpoint(file) | updates)

    def set_aside(self) -> None:
        """Move the files of an earlier run into a subfolder, with a message."""
        found = sorted({file for pattern in RUN_FILES for file in self.folder.glob(pattern)})
        if found := [file for file in found if file.is_file() or any(file.iterdir())]:
            progress, backup = self.progress(), increment_path(self.folder / "previous")
            backup.mkdir()
            for file in found:
                file.rename(backup / file.name)
            what = f"an unfinished run, interrupted in {progress}," if progress else "an earlier run"
            self.weights.mkdir(exist_ok=True)
            how = f". To resume it: yolo train {typed(resume=backup / 'weights' / 'last.pt')}" if progress else ""
            LOGGER.warning(f"{self.folder}: {what} was here and is now in {backup}{how}")

    def report_unfinished(self) -> None:
        """Warn if the newest other run with this name, apart from the number, was interrupted."""
        name = re.compile(re.escape(self.folder.name.rstrip("0123456789")) + r"\d*")
        runs = [RunDir(folder) for folder in self.folder.parent.iterdir() if name.fullmatch(folder.name)]
        runs = [run for run in runs if run.last.is_file() and run.folder != self.folder]
        newest = max(runs, key=lambda run: run.last.stat().st_mtime, default=None)
        if newest and (progress := newest.progress()):
            LOGGER.warning(
                f"{newest.folder}: has an unfinished run, interrupted in {progress}. This run begins with epoch 1; to "
                f"resume the other one: yolo train {typed(resume=newest.last)}"
            )

    def progress(self) -> str:
        """Return the epoch in which the run of the folder was interrupted; "" without one, or if it is in progress."""
        if not self._lock and self.folder.resolve() in _locked():
            return ""
        with suppress(WeightsError, OSError, KeyError, TypeError):
            state, lock = load_checkpoint(self.last), self.folder / ".lock"
            if not state.get("finished") and state["optimizer"] is not None:
                # a second descriptor of our own lock would release it
                with open(lock, "r+") if lock.exists() and not self._lock else nullcontext() as file:
                    if file is None or lock_file(file):
                        return f"epoch {state['epoch'] + 2} of {state['options']['epochs']}"
        return ""

    def save_batch(self, batch: Mapping[str, Any], rank: int) -> Path:
        """Save a batch that led to a non-finite value, as the network received it, with its file names."""
        file = self.folder / f"non_finite{f'_{rank}' if rank else ''}.pt"
        kept = {key: batch[key] for key in ("img", "cls", "bboxes", "batch_idx", "im_file") if key in batch}
        with atomic_write(file) as stream:
            torch.save(kept, stream)
        return file

    def _read_results(self) -> list[dict[str, str]]:
        """Return the rows of results.csv, also as rewritten by a spreadsheet; move one that cannot be read aside."""
        try:
            rows = read_csv(self.results) if self.results.exists() else []
            for row in rows:
                row["epoch"] = f"{float(row['epoch']):g}"  # a spreadsheet may write 1.0
                for value in filter(None, row.values()):
                    float(value)  # `plot_results` needs numbers
            return rows
        except (UserError, KeyError, ValueError, csv.Error) as error:
            kept = increment_path(self.folder / "results_damaged.csv")
            os.replace(self.results, kept)
            LOGGER.warning(f"{self.results}: cannot be read ({first_line(error)}); moved to {kept.name}")
            return []

    def _columns(self) -> dict[str, list[float]]:
        """Return results.csv by column; nan where it is empty."""
        rows = self._read_results()
        return {key: [float(row[key] or "nan") for row in rows] for key in rows[0]} if rows else {}

    def append_results(self, row: Mapping[str, float]) -> None:
        """Append an epoch to results.csv; rows from this epoch on, left by a run before its resume, are dropped."""
        rows = [old for old in self._read_results() if float(old["epoch"]) < row["epoch"]]
        rows.append({key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in row.items()})
        columns = dict.fromkeys(key for old in reversed(rows) for key in old)  # a new one is empty in the rows before
        table = Table([*map(Column, columns)], [[old.get(key, "") for key in columns] for old in rows])
        write_text(self.results, table.csv())


@cache
def _locked() -> set[Path]:
    """Return the run folders in which this process trains."""
    return set()


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

    def epochs_left(self, hours: float, done: float) -> int:
        """Return how many epochs, with the one that has begun, fit into `hours` after `done` epochs of the run."""
        return max(math.floor(hours * 3600 * done / max(self.elapsed, 1e-9)) - math.floor(done), 0)


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
            left = timedelta(seconds=round(min(self.clock.left(self.epoch, self.done), 1e9)))
            shown += [f"left {left}", f"{speed:.1f} img/s", counted(boxes, "box"), f"{size}px"]
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
    kind = "AdamW" if options.optimizer == "auto" else options.optimizer
    names = ", ".join(f"lr/pg{index} {group['name']}" for index, group in enumerate(groups))
    return (
        f"{kind}: learning rate {options.lr0:g} (backbone x {options.backbone_lr_ratio:g}), "
        f"{schedule}; {trained:,} parameters are trained ({names})"
    )


def strip_optimizer(f: str | Path, s: str | Path = "", updates: Mapping[str, Any] | None = None) -> dict:
    """Reduce a checkpoint, in place or as the file `s`, to its averaged weights, and change entries; return it."""
    state = load_checkpoint(f)
    averaged = (state.get("ema") or state["model"]).items()
    averaged = {name: value.float() if value.is_floating_point() else value for name, value in averaged}
    state |= {"model": averaged, "ema": None, "optimizer": None, "scaler": None, **(updates or {})}
    save_checkpoint(s or f, state)
    return state


def interruption(state: TrainState) -> str:
    """Describe what an interrupted run has saved, and how to resume it."""
    if not state.args.save:
        return "Training interrupted; nothing was saved (save=False)."
    if state.finished_epochs >= state.epochs:
        return f"Interrupted after the last epoch; the weights are in {state.best}, the final validation was skipped."
    return (
        f"Training interrupted in epoch {state.finished_epochs + 1}, saved in {state.last}. To resume:\n"
        f"  yolo train {typed(resume=state.last)}{state.trust}\n"
        f"or in Python: model.train(resume={str(state.last)!r}{state.trust and ', trust=True'})"
    )


def summary(state: TrainState, seconds: float) -> str:
    """Describe a finished run: why it ended, its best epoch, its files, and the commands for what comes next."""
    options, stopper = state.args, state.stopper
    of, stopped = (f" of {state.epochs}", " Stopped early") if state.finished_epochs < state.epochs else ("", "")
    if state.stop_reason:
        stopped = f"{stopped or ' Stopped'}: {state.stop_reason}"
    epochs = f"{state.finished_epochs}{of} epoch{'s' * (state.epochs != 1)}"
    lines = [f"Finished {epochs} in {timedelta(seconds=round(seconds))}.{stopped}"]
    if stopper.best_fitness is None:
        why = "the validation images have no labels" if options.val else "val=False"
        lines.append(f"Best epoch: unknown ({why}); best.pt is the last one.")
    else:
        lines.append(f"Best epoch: {stopper.best_epoch + 1}, with mAP50-95 {stopper.best_fitness:.4f}.")
    lines += [f"In {state.save_dir}:", "  results.csv  metrics of every epoch"]
    if options.save:
        best = stopper.best_epoch + 1 if options.val else state.finished_epochs
        may_continue = options.save_optimizer or not state.is_done
        use = ", to resume from" if may_continue else ", weights only (save_optimizer=False)"
        lines += [f"  weights/best.pt  epoch {best}", f"  weights/last.pt  epoch {state.finished_epochs}{use}"]
        lines.append("Predict with the best weights:")
        lines.append(f"  yolo predict {typed(model=state.best)} source=path/to/images{state.trust}")
        lines.append(
            f"  python detect.py --weights {shlex.quote(str(state.best))} --source path/to/images{state.trust}"
        )
    if options.save and state.stop_reason and may_continue:
        change = "patience=0" if stopper.reason(state.finished_epochs - 1) else "time=HOURS"
        lines += ["Continue:", f"  yolo train {typed(resume=state.last)} {change}{state.trust}"]
    return "\n".join(lines)


def add_plots(callbacks: Callbacks) -> None:
    """Add callbacks that plot the labels, the first training batches and, at the end, the curves of results.csv."""
    callbacks.add("on_train_start", lambda trainer: trainer.plot_training_labels())
    callbacks.add("on_train_batch_end", _plot_batch)
    callbacks.add("on_train_end", lambda trainer: trainer.plot_metrics())


def _plot_batch(trainer: Any) -> None:
    if trainer.epoch == 0 and trainer.batches_done <= 3:
        trainer.plot_training_samples(trainer.batch, trainer.batches_done - 1)
