"""The queue of runs: what is done, running, failed or waiting, on one machine or on a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ultralytics.ablation.study import Run, StudyError, StudySpec
from ultralytics.ablation.worker import CONFIG, DONE, ERROR, LOG, TRAIN, WATCH, read_result
from ultralytics.cfg.plain_data import read_yaml
from ultralytics.engine.train_log import RunDir, lock_file
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import require, usable_cores
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import read_text, write_yaml
from ultralytics.utils.tables import Column, Table, read_csv

POLL_SECONDS = 0.2
WAITING, RUNNING, FAILED, FINISHED = "waiting", "running", "failed", "done"
STATUS_COLUMNS = (
    Column("Cell"), Column("Seed", "d"), Column("Fold", "d"), Column("State"), Column("Epochs"),
    Column("mAP50-95", ".4f"), Column("Left (min)", ".1f"),
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """State of a run by its files, which another process may write."""

    run: Run
    state: str
    epochs: int  # finished
    total: int
    score: float | None  # mAP50-95 of the last epoch
    seconds_left: float | None

    @classmethod
    def read(cls, run: Run) -> Progress:
        files, total, limit = RunDir(run.folder / TRAIN), 0, None
        with suppress(UserError, KeyError):
            options = read_yaml(run.folder / CONFIG)
            limit = options.get("time")  # hours, in place of epochs
            total = 0 if limit else options["epochs"]
        rows: list[dict[str, str]] = []
        with suppress(UserError):
            rows = read_csv(files.results)
        epochs, score, left = len(rows), None, None
        with suppress(KeyError, ValueError, IndexError):
            score = float(rows[-1]["metrics/mAP50-95(B)"])
            seconds = float(rows[-1]["time"])
            left = max(limit * 3600 - seconds, 0) if limit else seconds / epochs * (total - epochs)
        state = WAITING
        if (run.folder / DONE).exists():
            state, left = FINISHED, 0.0
        elif is_locked(files.folder / ".lock"):
            state = RUNNING
        elif (run.folder / ERROR).exists():
            state = FAILED
        return cls(run, state, epochs, total, score, left)


def is_locked(file: Path) -> bool:
    """Check whether another process holds the lock of a run or study folder."""
    if not file.exists():
        return False
    with open(file, "r+") as stream:
        return not lock_file(stream)


def status_table(runs: Sequence[Run]) -> Table:
    """Return a row for each run: its state, epochs, last mAP50-95 and the minutes that are left."""
    rows = []
    for run in runs:
        now = Progress.read(run)
        left = None if now.seconds_left is None else now.seconds_left / 60
        epochs = f"{now.epochs}/{now.total or '?'}"
        rows.append((run.cell.name, run.seed, run.fold or None, now.state, epochs, now.score, left))
    return Table(STATUS_COLUMNS, rows)


def write_config(spec: StudySpec, run: Run, data: str) -> None:
    """Write the options of a run. Raise StudyError if the folder has a run of other options."""
    options = {**spec.options(run.cell), "model": run.cell.model, "seed": run.seed, "data": data}
    options = {"plots": False, **options}
    file = run.folder / CONFIG
    if file.exists() and (before := read_yaml(file)) != options:
        differing = sorted(key for key in {*before, *options} if before.get(key) != options.get(key))
        shown = ", ".join(f"{key}: {before.get(key)!r}, now {options.get(key)!r}" for key in differing)
        raise StudyError(
            f"{run.folder}: was started with other options ({shown}). Restore them, give the change another name, or "
            "delete this folder to train it again"
        )
    if not file.exists():
        write_yaml(file, options)


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Exclude other processes from a study in the block; the lock ends with this process."""
    with open(folder / ".lock", "a+") as stream:
        if not lock_file(stream):
            raise StudyError(f"{folder}: another process runs this study. Follow it by `yolo ablate status`, or end it")
        yield


def run_local(runs: Sequence[Run], jobs: int, devices: Sequence[str], finished: Callable[[Run, str], None]) -> None:
    """Train runs on this machine, `jobs` at a time, each in a process on the next free device.

    `finished` is called with each run and its error, "" if there is none. Ctrl-C stops all runs after they have saved
    their state.
    """
    places = [devices[i % len(devices)] if devices else "" for i in range(max(jobs, len(devices)))]
    threads = max(usable_cores() // len(places), 1)
    waiting, active = list(runs), {}
    try:
        while waiting or active:
            while waiting and places:
                run, place = waiting.pop(0), places.pop(0)
                active[_start(run.folder, place, OMP_NUM_THREADS=str(threads))] = run, place
            for process in [process for process in active if process.poll() is not None]:
                run, place = active.pop(process)
                places.append(place)
                finished(run, read_error(run, process.returncode))
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:  # the runs have received it, too
        LOGGER.warning("Interrupted: waiting for the runs to save their state; the same command continues the study")
        for process in active:
            with suppress(KeyboardInterrupt):
                process.wait()
        raise
    finally:
        for process in active:
            process.kill()


def _start(folder: Path, device: str = "", **defaults: str) -> subprocess.Popen:
    """Start the process of a run; its output goes to a log in its folder. `defaults` are environment variables."""
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **defaults, **os.environ, WATCH: "1"}
    with open(folder / LOG, "ab") as log:
        pipes = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log}
        return subprocess.Popen(worker_command(folder, device), env=environment, **pipes)


def worker_command(folder: Path, device: str = "") -> list[str]:
    """Return the command of the process that trains the run of a folder."""
    return [sys.executable, "-m", f"{__package__}.worker", str(folder), *([device] if device else [])]


def read_error(run: Run, code: int) -> str:
    """Return why a run has failed, "" if it has not."""
    if (run.folder / DONE).exists():
        return ""
    if (run.folder / ERROR).exists():
        return read_text(run.folder / ERROR).strip()
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its process ended by {how}; see {run.folder / LOG}"


def run_on_ray(runs: Sequence[Run], jobs: int, devices: Sequence[str], finished: Callable[[Run, str], None]) -> None:
    """Train runs as tasks of a Ray cluster, each with one GPU where the cluster has any, else with one core.

    All nodes need the study folder and the data at the same path. A task whose node is lost starts again on another
    one, and continues from the last checkpoint.
    """
    ray = require("ray", "ray", "executor=ray")
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False)
    share = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    task = ray.remote(max_retries=-1, retry_exceptions=False, **share)(lambda folder: _start(folder).wait())
    pending = {task.remote(run.folder): run for run in runs}
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        for reference in ready:
            run = pending.pop(reference)
            try:
                code = ray.get(reference)
            except ray.exceptions.RayError as error:
                finished(run, f"{type(error).__name__}: {error}")
            else:
                finished(run, read_error(run, code))


EXECUTORS = {"local": run_local, "ray": run_on_ray}


def results_of(runs: Sequence[Run]) -> dict[Run, dict]:
    """Return the results of the runs that are done."""
    return {run: read_result(run.folder) for run in runs if (run.folder / DONE).exists()}
