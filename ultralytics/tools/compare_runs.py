"""`yolo table runs/detect/val runs/detect/val2`: the tables of several runs as one, with a row for each run."""

from collections.abc import Sequence
from pathlib import Path

from ultralytics.metrics.summary_table import STEM
from ultralytics.tools.common import find_runs, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.tables import Column, Table, read_csv

FILE = f"{STEM}.csv"
CONDITIONS = ("Size (px)", "Batch")  # of the validation
NUMBERS = ("Params (M)", "GFLOPs", "FPS", "FPS (model)", "mAP50", "mAP50-95")
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
        project, name: folder of the results, `runs/table/ablation` by default; numbered when taken.
    """
    table = compare_runs(runs, names)
    LOGGER.info(table.text())
    folder = tool_dir("table", project, name, "ablation")
    table.write(folder, "ablation", f"Comparison with {table.rows[0][0]}.")
    LOGGER.info(f"{folder}: ablation.txt, .md, .tex, .csv written")


def compare_runs(runs: Sequence[str | Path], names: Sequence[str] | str | None = None) -> Table:
    """Return a row for each run: size, speed, mAP50, mAP50-95, and the differences to the first run."""
    expected = "the folder of a validation (`yolo val model=...` with plots on, the default) or of a finished training"
    totals = {label: _read_totals(file) for label, file in find_runs(runs, names, FILE, expected).items()}
    first = next(iter(totals.values()))
    for key in CONDITIONS:
        values = list(dict.fromkeys(row[key] for row in totals.values()))
        if len(values) > 1:
            LOGGER.warning(f"the runs differ in {key}: {', '.join(map(str, values))}; FPS depend on it")
    rows = []
    for label, row in totals.items():
        cells = {"Run": label, **row}
        for key in ("mAP50", "mAP50-95"):
            known = row is not first and None not in (row[key], first[key])
            cells[f"diff. {key}"] = row[key] - first[key] if known else None
        rows.append([cells[column.title] for column in COLUMNS])
    return Table(COLUMNS, rows)


def _read_totals(file: Path) -> dict[str, str | float | int | None]:
    """Read the first row, `all`, of a summary CSV."""
    row = read_csv(file)[0]
    kinds = {"Model": str, **dict.fromkeys(CONDITIONS, int), **dict.fromkeys(NUMBERS, float)}
    try:
        return {key: kind(row[key]) if row[key] else None for key, kind in kinds.items()}
    except KeyError as error:
        raise DataError(f"{file}: no column {error}; expected a {FILE} written by `yolo val`") from error
    except ValueError as error:
        raise DataError(f"{file}: expected numbers in its first row ({error}); validate again") from error
