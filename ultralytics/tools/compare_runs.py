"""`yolo table runs/detect/val runs/detect/val2`: the tables of several runs as one, with a row for each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ultralytics.metrics.summary_table import STEM
from ultralytics.tools.common import run_names, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.tables import Column, Table, read_csv

FILE = f"{STEM}.csv"
COPIED = ("Params (M)", "GFLOPs", "FPS", "FPS (model)")  # columns of FILE
CONDITIONS = ("Size (px)", "Batch")  # of the validation
COMPARED = ("mAP50", "mAP50-95")  # shown with the difference to the first run
COLUMNS = (
    Column("Run"), Column("Model"), Column("Size (px)", "d"), Column("Params (M)", ".3f"), Column("GFLOPs", ".2f"),
    Column("FPS", ".1f"), Column("FPS (model)", ".1f"), Column("mAP50", ".3f"), Column("diff. mAP50", "+.3f"),
    Column("mAP50-95", ".3f"), Column("diff. mAP50-95", "+.3f"),
)  # fmt: skip


def command(
    runs: list[str], names: list[str] | str | None = None, project: str | None = None, name: str | None = None
) -> None:
    """Merge the tables of runs in the given order; differences are to the first.

    Args:
        runs: folders of validations or trainings, or their summary CSV files.
        names: one for each run; the folders' names by default.
        project: folder of the results, `runs/table` by default.
        name: folder in it, `ablation` by default; numbered when taken.

    Raises:
        UserError: a run has no table, or there are not as many names as runs.
    """
    table = compare_runs(runs, names)
    LOGGER.info(table.text())
    folder = tool_dir("table", project, name, "ablation")
    table.write(folder, "ablation", f"Comparison with {table.rows[0][0]}.")
    LOGGER.info(f"{folder}: ablation.txt, .md, .tex, .csv written")


def compare_runs(runs: Sequence[str | Path], names: Sequence[str] | str | None = None) -> Table:
    """Return a row for each run: size, speed, mAP50, mAP50-95, and the differences to the first run.

    Raises:
        UserError: see `command`.
    """
    files = [Path(run) if Path(run).is_file() else Path(run) / FILE for run in runs]
    for run, file in zip(runs, files, strict=True):
        if not file.is_file():
            problem = f"no {FILE} in it" if Path(run).is_dir() else "no such folder"
            raise DataError(
                f"{run}: {problem}; expected the folder of a validation (`yolo val model=...` with plots on, the "
                "default) or of a finished training"
            )
    labels = run_names(runs, [file.parent for file in files], names)
    totals = [_read_totals(file) for file in files]
    for key in CONDITIONS:
        values = list(dict.fromkeys(row[key] for row in totals))
        if len(values) > 1:
            LOGGER.warning(f"the runs differ in {key}: {', '.join(map(str, values))}; FPS depend on it")
    rows = []
    for label, row in zip(labels, totals, strict=True):
        compared = []
        for key in COMPARED:
            known = rows and row[key] is not None and totals[0][key] is not None
            compared += [row[key], row[key] - totals[0][key] if known else None]
        rows.append((label, row["Model"], row["Size (px)"], *(row[key] for key in COPIED), *compared))
    return Table(COLUMNS, rows)


def _read_totals(file: Path) -> dict[str, str | float | int | None]:
    """Read the first row, `all`, of a summary CSV."""
    row = read_csv(file)[0]
    if missing := [key for key in ("Model", *CONDITIONS, *COPIED, *COMPARED) if key not in row]:
        raise DataError(f"{file}: no column {missing[0]!r}; expected a {FILE} written by `yolo val`")
    try:
        numbers = {key: float(row[key]) if row[key] else None for key in (*COPIED, *COMPARED)}
        conditions = {key: int(row[key]) if row[key] else None for key in CONDITIONS}
    except ValueError as error:
        raise DataError(f"{file}: expected numbers in its first row ({error}); validate again") from error
    return {"Model": row["Model"], **conditions, **numbers}
