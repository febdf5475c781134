"""`Study`: prepare, run, follow and report the runs of a study file."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultralytics.ablation.analysis import Analysis, Size, analyze
from ultralytics.ablation.controls import equal_cost_model
from ultralytics.ablation.queue import EXECUTORS, FINISHED, Progress, results_of, status_table, study_lock, write_config
from ultralytics.ablation.report import write_report
from ultralytics.ablation.study import BASE, Cell, Run, StudyError, StudySpec, list_runs
from ultralytics.ablation.timing import cell_speeds, estimate_hours, open_network
from ultralytics.ablation.worker import TRAIN
from ultralytics.cfg.model_yaml import find_model_yaml
from ultralytics.data.build import build_dataset
from ultralytics.data.dataset_yaml import DatasetConfig, list_images, load_dataset_config
from ultralytics.engine.checkpoint import environment, fingerprints
from ultralytics.models.benchmark import Speed
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, UserError, counted, did_you_mean
from ultralytics.utils.files import parse_json, read_text, write_text, write_yaml
from ultralytics.utils.flops import get_flops
from ultralytics.utils.tables import Column, Table

STUDY_FILE = "study.yaml"
FOLDERS = Path("runs", "ablate")
MOST_SHOWN, IMAGES_SHOWN = 5, 3  # cells and images of the detections side by side
SIZE_COLUMNS = (
    Column("Cell"), Column("Changes"), Column("Model"), Column("Params (M)", ".3f"), Column("GFLOPs", ".2f"),
    Column("diff. params", "+.2%"), Column("diff. GFLOPs", "+.2%"), Column("Runs", "d"), Column("Minutes each", ".1f"),
)  # fmt: skip


class Study:
    """An ablation study: cells (the base and its changes), trained for several seeds and folds, and compared.

    Args:
        study: a study file or its content; see docs/en/ablation.md.
        folder: of models, runs and results; `runs/ablate/NAME` by default, which a repeated study continues.

    Raises:
        StudyError: the study file is wrong.

    Examples:
        >>> changes = {"MAL": {"train": {"loss_class": "mal"}}}
        >>> study = {"model": "rtdetr-r18.yaml", "data": "shapes8.yaml", "changes": changes}
        >>> [cell.name for cell in Study(study, folder="runs/ablate/mal").prepare()]
        ['base', 'MAL']
    """

    def __init__(self, study: str | Path | Mapping[str, Any], folder: str | Path | None = None) -> None:
        self.spec = StudySpec.read(study)
        name = "study" if isinstance(study, Mapping) else Path(study).stem
        self.folder = Path(folder or FOLDERS / name).absolute()
        self.cells: list[Cell] = []
        self.sizes: dict[str, Size] = {}
        self.remarks: dict[str, str] = {}

    def prepare(self) -> list[Cell]:
        """Write the model files of all cells, build each, and return the cells.

        Raises StudyError with the errors of all cells that do not build, or if the folder has another study.
        """
        self._claim_folder()
        config = load_dataset_config(self.spec.data, ("train", "val"))
        self.folds = [self._write_fold(config, fold) for fold in range(1, self.spec.folds + 1)]
        cells, problems = self.spec.build_cells(self.folder / "models")
        for cell in cells:
            if not cell.model:  # runs made by hand
                continue
            try:
                self.sizes[cell.name] = self._measure(cell.model, config.nc, self.spec.checked_options(cell))
            except UserError as error:
                problems.append(f"{cell.name}: {error}")
        problems += [f"images: no file {image}" for image in self.spec.images if not Path(image).exists()]
        if problems:
            raise StudyError(f"{self.spec.where}: nothing is trained; some cells do not build:\n" + "\n".join(problems))
        if "equal-cost" in self.spec.controls:
            cells += self._equal_cost(cells, config.nc)
        if twice := {cell.slug for cell in cells if [other.slug for other in cells].count(cell.slug) > 1}:
            raise StudyError(f"{self.spec.where}: two cells have the folder {twice.pop()!r}; rename a change or a run")
        self.cells = cells
        self.runs = list_runs(self.spec, cells, self.folder)
        return cells

    def run(self, jobs: int = 1, device: str | None = None, executor: str = "local", *, cost: bool = True) -> Analysis:
        """Train all runs that are not done, and return the analysis; the report is written into the folder.

        Args:
            jobs: runs at a time.
            device: devices to give out, such as `0,1,2,3`: one run on each.
            executor: `local`, or `ray` for a Ray cluster.
            cost: measure latency and memory of all cells after the trainings.
        """
        if executor not in EXECUTORS:
            near = did_you_mean(executor, EXECUTORS)
            raise StudyError(f"executor={executor!r}: expected {', '.join(EXECUTORS)}{near}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with study_lock(self.folder):
            self.prepare()
            failures: dict[Run, str] = {}
            for run in self.runs:
                write_config(self.spec, run, str(self.folds[run.fold - 1] if run.fold else self.spec.data))
            waiting = [run for run in self.runs if Progress.read(run).state != FINISHED]
            analyze(self.spec, self.cells, results_of(self.runs), self.sizes)  # raises before hours are spent
            if 0 < len(waiting) < len(self.runs) and not self.spec.changed_data:
                self._check_data()
            total, start = len(self.runs), time.perf_counter()
            LOGGER.info(f"{self.folder}: {counted(total, 'run')}, {total - len(waiting)} of them done")

            def finished(run: Run, error: str) -> None:
                nonlocal waiting
                waiting = [other for other in waiting if other is not run]
                where = f"{run.cell.name}, seed {run.seed}" + (f", fold {run.fold}" if run.fold else "")
                minutes = (time.perf_counter() - start) / 60
                if error:
                    failures[run] = error
                    LOGGER.error(f"{where}: failed: {error}")
                else:
                    LOGGER.info(f"{where}: done after {minutes:.1f} min; {counted(len(waiting), 'run')} left")

            if waiting:
                EXECUTORS[executor](list(waiting), jobs, device.split(",") if device else [], finished)
            return self.report(failures, self._measure_speeds(device) if cost and not failures else {})

    def report(self, failures: Mapping[Run, str] | None = None, speeds: Mapping[str, Speed] | None = None) -> Analysis:
        """Analyze the runs that are done, and write tables, figures and report.html into the folder."""
        if not self.cells:
            self.prepare()
        analysis = analyze(self.spec, self.cells, results_of(self.runs), self.sizes)
        analysis.failures = dict(failures or {})
        facts = {key: value for key, value in environment(torch.device("cpu")).items() if value is not None}
        write_report(analysis, self.folder, speeds, facts, self._detectors(), self._images())
        return analysis

    def status(self) -> Table:
        """Return the state of every run, also while another process runs the study."""
        if not self.cells:
            self.prepare()
        return status_table(self.runs)

    def sizes_table(self, hours: Mapping[str, float] | None = None) -> Table:
        """Return a row for each cell: its changes, cost, difference to the base, and the minutes of a run if known."""
        base, rows = self.sizes[self.cells[0].name], []
        for cell in self.cells:
            size, runs = self.sizes.get(cell.name), sum(run.cell is cell for run in self.runs)
            changes = self.remarks.get(cell.name) or " + ".join(cell.changes) or "-"
            cost = (None,) * 4
            if size:
                more = (size.parameters / base.parameters - 1, size.gflops / base.gflops - 1)
                cost = (size.parameters / 1e6, size.gflops, *(more if cell is not self.cells[0] else (None, None)))
            minutes = 60 * hours[cell.name] if hours and cell.name in hours else None
            rows.append((cell.name, changes, Path(cell.model).name, *cost, runs, minutes))
        return Table(SIZE_COLUMNS, rows)

    def estimate(self, batches: int = 3) -> dict[str, float]:
        """Return the hours of one run of each cell, from the time of a few training steps and validation batches."""
        data = str(self.folds[0]) if self.folds else self.spec.data
        return {
            cell.name: estimate_hours({**self.spec.options(cell), "model": cell.model, "data": data}, batches)
            for cell in self.cells
            if not cell.folders
        }

    def _check_data(self) -> None:
        """Raise StudyError, before anything is trained, if the data set differs from that of a run that is done."""
        run, result = next(iter(results_of(self.runs).items()))
        options = self.spec.checked_options(run.cell).replace(cache=False)
        config = load_dataset_config(result["options"]["data"], ("train", "val"))
        parts = {split: build_dataset(options, config, split, training=split == "train") for split in config.splits}
        before = (result.get("environment") or {}).get("fingerprints") or {}
        for kind, mark in fingerprints(parts, nn.Identity()).items():
            if before.get(kind, mark) != mark:
                raise StudyError(
                    f"{self.spec.data}: its {kind} are not those of {run.folder} ({mark}, {before[kind]}): the data "
                    "set was edited. Delete the folders of the older runs to train them again, or write "
                    "`changed_data: true` into the study"
                )

    def _measure(self, model: str, nc: int, options: Any) -> Size:
        network = open_network(model, nc, self.spec.modules)
        return Size(sum(p.numel() for p in network.parameters()), get_flops(network, options.imgsz))

    def _detectors(self) -> dict[str, Path]:
        """Return the weights of the first run of the base and of up to MOST_SHOWN - 1 changes."""
        file = "best.pt" if self.spec.rule == "best" else "last.pt"
        found: dict[str, Path] = {}
        for run in self.runs:
            weights = run.folder / TRAIN / "weights" / file
            if not run.cell.seed_shift and not run.cell.equals and weights.exists():
                found.setdefault(run.cell.name, weights)
        return dict(list(found.items())[:MOST_SHOWN])

    def _images(self) -> list[Path]:
        """Return the images of the study file, or the first ones of the validation split."""
        if self.spec.images:
            return [Path(image) for image in self.spec.images]
        config = load_dataset_config(self.spec.data, ("val",))
        return list_images(config.splits["val"], config.root)[:IMAGES_SHOWN]

    def _measure_speeds(self, device: str | None) -> dict[str, Speed]:
        """Measure latency and memory of all cells, in turns; the times of an earlier call are kept for equal cells."""
        options = self.spec.checked_options(self.cells[0])
        nc, imgsz = load_dataset_config(self.spec.data, ("train",)).nc, options.imgsz
        models = {cell.name: cell.model for cell in self.cells if cell.name in self.sizes}
        content = {name: read_text(find_model_yaml(model)[0]) for name, model in models.items()}
        key = {"imgsz": imgsz, "device": device, "cells": content}
        file = self.folder / "speeds.json"
        if file.exists():
            saved = parse_json(read_text(file), str(file))
            if saved["of"] == key:
                return {name: Speed(**values) for name, values in saved["speeds"].items()}
        LOGGER.info(f"Measuring the latency of {counted(len(models), 'cell')} in turns")
        speeds = cell_speeds(models, nc, imgsz, device and device.split(",")[0], self.spec.modules)
        write_text(file, json.dumps({"of": key, "speeds": {name: asdict(speed) for name, speed in speeds.items()}}))
        return speeds

    def _equal_cost(self, cells: Sequence[Cell], nc: int) -> list[Cell]:
        """Return a control for each change that costs more than the base."""
        base, controls = cells[0], []
        options = self.spec.checked_options(base)
        for cell in cells[1:]:
            size = self.sizes.get(cell.name)
            if not cell.changes or size is None or size == self.sizes[base.name]:  # only options differ
                continue
            name = f"{BASE} as large as {cell.name}"
            file = self.folder / "models" / f"{Cell(name).slug}.yaml"
            done = equal_cost_model(base.model, size, lambda model: self._measure(model, nc, options), file)
            if done is None:
                LOGGER.info(f"{cell.name}: costs no more than {BASE}, within 0.5 %; no control of equal cost")
                continue
            control = Cell(name, model=str(file), equals=cell.name)
            self.sizes[name], self.remarks[name] = self._measure(control.model, nc, options), done
            controls.append(control)
        return controls

    def _claim_folder(self) -> None:
        """Record the study in its folder; raise StudyError if another one is there."""
        file = self.folder / STUDY_FILE
        if file.exists():
            before, shared = StudySpec.read(file), ("model", "data", "train", "folds")  # of all runs in a folder
            if differing := [key for key in shared if getattr(before, key) != getattr(self.spec, key)]:
                raise StudyError(
                    f"{self.folder}: has another study, with a different {', '.join(differing)}. Choose another folder "
                    "by project=FOLDER name=NAME; changes, seeds, controls and design may differ"
                )
        write_yaml(file, self.spec.source)

    def _write_fold(self, config: DatasetConfig, fold: int) -> Path:
        """Write the data YAML of a fold: the images of train and val, distributed after a fixed shuffle."""
        if config.annotations:
            raise StudyError(f"{self.spec.data}: folds need label files; convert the json by `yolo coco2yolo`")
        images = [image for split in ("train", "val") for image in list_images(config.splits[split], config.root)]
        images = sorted({image.resolve(): None for image in images})
        random.Random(0).shuffle(images)
        if len(images) < self.spec.folds:
            raise DataError(f"{self.spec.data}: {counted(len(images), 'image')} for {self.spec.folds} folds")
        parts = [images[i :: self.spec.folds] for i in range(self.spec.folds)]
        folder = self.folder / "folds" / f"fold{fold}"
        val, train = parts[fold - 1], [i for n, part in enumerate(parts, 1) if n != fold for i in part]
        for name, part in (("train.txt", train), ("val.txt", val)):
            write_text(folder / name, "".join(f"{image}\n" for image in sorted(part)))
        data = {"path": str(folder), "train": "train.txt", "val": "val.txt", "names": dict(config.names)}
        return write_yaml(folder / "data.yaml", data)
