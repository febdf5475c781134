"""The files of a training run: weights/, results.csv, args.yaml."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from ultralytics.engine.checkpoint import load_checkpoint, save_checkpoint
from ultralytics.utils.atomic import atomic_write
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import write_text, write_yaml

TRAINING_STATE = ("optimizer", "scheduler", "scaler", "loss_sum")  # of a checkpoint, only to resume from


class RunFiles:
    """Paths below the run folder and the ways to write them, each whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights"
        self.last = self.weights / "last.pt"
        self.best = self.weights / "best.pt"
        self.results = folder / "results.csv"

    def create(self, options: Mapping[str, object]) -> None:
        """Make the folders and write args.yaml."""
        self.weights.mkdir(parents=True, exist_ok=True)
        write_yaml(self.folder / "args.yaml", options)

    def save(self, state: dict, *, best: bool, numbered: bool) -> None:
        """Write last.pt; `best` and `numbered` (epochN.pt, N from 1) are other names for the same content.

        last.pt changes at the end: a process killed in between resumes from the epoch before, and gets here again.
        """
        wanted = {self.best: best, self.weights / f"epoch{state['epoch'] + 1}.pt": numbered, self.last: True}
        first, *others = (path for path, write in wanted.items() if write)
        save_checkpoint(first, state)
        for path in others:
            _link(first, path)

    def slim_best(self) -> None:
        """Leave the averaged weights alone in best.pt, a quarter of the size. last.pt keeps everything."""
        state = load_checkpoint(self.best)
        weights = state["ema"]
        save_checkpoint(self.best, {**state, "model": weights, **dict.fromkeys(TRAINING_STATE)})

    def save_batch(self, batch: dict, rank: int) -> Path:
        """Keep a batch that led to numbers which are not finite: tensors as the network got them, and file names."""
        file = self.folder / f"non_finite{f'_{rank}' if rank else ''}.pt"
        kept = {key: batch[key] for key in ("img", "cls", "bboxes", "batch_idx", "im_file") if key in batch}
        with atomic_write(file) as stream:
            torch.save(kept, stream)
        return file

    def append_results(self, row: Mapping[str, float]) -> None:
        """Add one epoch to results.csv. A new column (validation began later) is empty in the rows before it."""
        self._write_results([*self.read_results(), {key: _short(value) for key, value in row.items()}])

    def keep_results(self, epochs: int) -> None:
        """Drop the rows of epochs after the first `epochs`, which a resumed run does again."""
        if self.results.exists():
            self._write_results([row for row in self.read_results() if int(row["epoch"]) <= epochs])

    def read_results(self) -> list[dict[str, str]]:
        """Rows of results.csv, none when there is no such file."""
        if not self.results.exists():
            return []
        with open(self.results, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _write_results(self, rows: list[dict[str, str]]) -> None:
        columns = list(dict.fromkeys(key for row in reversed(rows) for key in row))  # the newest row has them all
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        try:
            write_text(self.results, text.getvalue())
        except OSError as error:
            raise UserError(
                f"{self.results}: cannot be written ({error.strerror}); the rows so far are intact."
            ) from error


def _short(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _link(source: Path, target: Path) -> None:
    """Make `target` the file `source` is now. Checkpoints are replaced, never changed in place, so sharing is safe."""
    unfinished = target.with_name(target.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(source, unfinished)
    except OSError:  # no hard links on this file system (FAT, some network drives)
        shutil.copyfile(source, unfinished)
    os.replace(unfinished, target)
