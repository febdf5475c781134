"""`yolo table runs/detect/val runs/detect/val2`: the tables of several runs as one, a row for each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ultralytics.metrics.summary_table import STEM
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.tables import Column, Table, read_csv

FILE = f"{STEM}.csv"
COPIED = ("Params (M)", "GFLOPs", "FPS", "FPS (model)")  # of summary_table.csv, without comment
CONDITIONS = ("Size (px)", "Batch")  # of the validation
COMPARED = ("mAP50", "mAP50-95")  # the difference to the first run stands beside them
COLUMNS = (
    Column("Run"), Column("Model"), Column("Size (px)", "d"), Column("Params (M)", ".3f"), Column("GFLOPs", ".2f"),
    Column("FPS", ".1f"), Column("FPS (model)", ".1f"), Column("mAP50", ".3f"), Column("diff. mAP50", "+.3f"),
    Column("mAP50-95", ".3f"), Column("diff. mAP50-95", "+.3f"),
)  # fmt: skip


def command(
    runs: list[str], names: list[str] | str | None = None, project: str | None = None, name: str | None = None
) -> None:
    """Join the tables of runs, in the order given; the first is what the others are compared with.

    Args:
        runs: folders of validations or trainings, or their summary_table.csv.
        names: what the rows shall be called, as many as there are runs; the folders' names by default.
        project: folder of the results, `runs/table` by default.
        name: folder in it, `ablation` by default; numbered when taken.

    Raises:
        UserError: a run has no table, or the names are not as many as the runs.
    """
    from ultralytics.tools.common import tool_dir

    table = ablation_table(runs, names.split(",") if isinstance(names, str) else names)
    LOGGER.info(table.text())
    folder = tool_dir("table", project, name, "ablation")
    table.write(folder, "ablation", f"Comparison with {table.rows[0][0]}.")
    LOGGER.info(f"{folder}: ablation.txt, .md, .tex, .csv written")


def ablation_table(runs: Sequence[str | Path], names: Sequence[str] | None = None) -> Table:
    """A row for each run: size, speed, mAP50 and mAP50-95, and how they differ from the first run's.

    Raises:
        UserError: see `command`.
    """
    if names is not None and len(names) != len(runs):
        raise OptionError(f"names: expected {len(runs)}, one for each run, got {len(names)}: {', '.join(names)}")
    files = [_table_file(Path(run)) for run in runs]
    found = [_totals(file) for file in files]
    _warn_of_differences(found)
    rows = []
    for label, row in zip(names or distinct_names([file.parent for file in files]), found, strict=True):
        base = found[0] if rows else dict.fromkeys(COMPARED)  # the first run is compared with nothing
        compared = [cell for key in COMPARED for cell in (row[key], _difference(row[key], base[key]))]
        rows.append((label, row["Model"], row["Size (px)"], *(row[key] for key in COPIED), *compared))
    return Table(COLUMNS, rows)


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the folders' paths, as many as it takes to tell different folders apart."""
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({p[-depth:] for p in parts}) < len(set(parts)):
        depth += 1
    return ["/".join(p[-depth:]) for p in parts]


def _table_file(run: Path) -> Path:
    file = run if run.is_file() else run / FILE
    if not file.is_file():
        there = "is no folder" if not run.is_dir() else f"has no {FILE}"
        raise DataError(
            f"{run}: {there}; expected the folder of a validation or a finished training. `yolo val model=...` "
            "(with plots on, as by default) writes the table into its folder"
        )
    return file


def _totals(file: Path) -> dict[str, str | float | int | None]:
    """The row `all` of a summary_table.csv, its numbers read."""
    row = read_csv(file)[0]
    wanted = ("Model", *CONDITIONS, *COPIED, *COMPARED)
    if missing := [key for key in wanted if key not in row]:
        raise DataError(f"{file}: no column {missing[0]!r}; expected a {FILE} as `yolo val` writes it")
    try:
        numbers = {key: float(row[key]) if row[key] else None for key in (*COPIED, *COMPARED)}
        conditions = {key: int(row[key]) if row[key] else None for key in CONDITIONS}
        return {"Model": row["Model"], **conditions, **numbers}
    except ValueError as error:
        raise DataError(f"{file}: its first row is not all numbers ({error}); validate anew") from error


def _warn_of_differences(found: Sequence[dict]) -> None:
    """Say in what the validations differ, beside the models."""
    for key in CONDITIONS:
        values = list(dict.fromkeys(row[key] for row in found))
        if len(values) > 1:
            LOGGER.warning(f"the runs differ in {key}: {', '.join(map(str, values))}; FPS depend on it")


def _difference(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base
