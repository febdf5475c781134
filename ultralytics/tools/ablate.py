"""`yolo ablate study=my-study.yaml`: from a list of changes to a table with its statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ultralytics.cfg.values import Device, OneOf, Range
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import UserError, counted


def command(
    study: str, jobs: Annotated[int, Range(1)] = 1, device: Device = None,
    executor: Annotated[str, OneOf("local", "ray")] = "local", dry: bool = False, status: bool = False,
    cost: bool = True, project: str | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Train the base and its changes for all seeds and folds, and write tables, figures and report.html.

    The same command continues an interrupted study, and trains only what is new after a change of the study file.

    Args:
        study: a study file, see docs/en/ablation.md; `yolo ablate status study=...` shows its runs.
        jobs: runs at a time.
        device: devices to give out, one run on each: 0,1,2,3.
        executor: `ray` for a Ray cluster.
        dry: print the cells, their cost and the estimated time, and stop.
        status: print the state of every run, and stop.
        cost: measure latency and memory of all cells after the trainings.
        project, name: folder of the study, `runs/ablate/STUDY` by default.
    """
    from ultralytics.ablation import Study

    planned = Study(study, Path(project or "runs/ablate", name or Path(study).stem))
    if status:
        LOGGER.info(planned.status().text())
    elif dry:
        planned.prepare()
        hours = planned.estimate()
        LOGGER.info(planned.sizes_table(hours).text())
        runs = [hours[run.cell.name] for run in planned.runs]
        total = f"{sum(runs):.1f} hours" if sum(runs) > 1 else f"{60 * sum(runs):.0f} minutes"
        LOGGER.info(f"{len(runs)} runs, about {total} one after the other; nothing was trained")
    else:
        failed = planned.run(jobs, None if device is None else str(device), executor, cost=cost).failures
        if failed:
            raise UserError(f"{counted(len(failed), 'run')} failed, see above; the same command tries them again")
