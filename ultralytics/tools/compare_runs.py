"""`yolo table runs/detect/val runs/detect/val2`: the tables of several runs as one, with a row for each run."""

from collections.abc import Sequence
from pathlib import Path

from ultralytics.metrics.summary_table import STEM
from ultralytics.tools.common import find_runs, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.tables import Column, Table, read_csv

FILE = f"{STEM}.csv"
CONDITIONS = ("Data", "Split", "Fingerprint", "Size (px)")  # of the validation; equal where metrics are subtracted
KINDS = {
    "Model": str, "Data": str, "Split": str, "Fingerprint": str, "Size (px)": int,
    **dict.fromkeys(("Params (M)", "GFLOPs", "mAP50", "mAP50-95"), float),
}  # fmt: skip
COLUMNS = (
    Column("Run"), Column("Model"), Column("Data"), Column("Split"), Column("Size (px)", "d"),
    Column("Params (M)", ".3f"), Column("GFLOPs", ".2f"), Column("mAP50", ".3f"), Column("diff. mAP50", "+.3f"),
    Column("mAP50-95", ".3f"), Column("diff. mAP50-95", "+.3f"),
)  # fmt: skip


def command(
    runs: list[str], names: list[str] | str | None = None, diff: bool = True, project: str | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """Merge the tables of runs in the given order; differences are to the first. `yolo fps` measures speed.

    Args:
        runs: folders of validations or trainings, or their summary CSV files.
        names: one for each run; the folders' names by default.
        diff: subtract metrics, which needs equal data, split and size; False: only list them.
        project, name: folder of the results, `runs/table/ablation` by default; numbered when taken.
    """
    table = compare_runs(runs, names, diff=diff)
    LOGGER.info(table.text())
    folder = tool_dir("table", project, name, "ablation")
    table.write(folder, "ablation", f"Comparison with {table.rows[0][0]}.")
    LOGGER.info(f"{folder}: ablation.txt, .md, .tex, .csv written")


def compare_runs(runs: Sequence[str | Path], names: Sequence[str] | str | None = None, *, diff: bool = True) -> Table:
    """Return a row for each run: size, mAP50, mAP50-95, and with `diff` the differences to the first run.

    Raises DataError if they were validated on other data, another split or at another size.
    """
    expected = "the folder of a validation (`yolo val model=...` with plots on, the default) or of a finished training"
    totals = {label: _read_totals(file) for label, file in find_runs(runs, names, FILE, expected).items()}
    first = next(iter(totals.values()))
    if diff and len(totals) > 1:
        _check_equal(totals)
    rows = []
    for label, row in totals.items():
        cells = {"Run": label, **row}
        for key in ("mAP50", "mAP50-95"):
            known = diff and row is not first and None not in (row[key], first[key])
            cells[f"diff. {key}"] = row[key] - first[key] if known else None
        rows.append([cells[column.title] for column in COLUMNS])
    return Table(COLUMNS, rows)


def _check_equal(totals: dict[str, dict[str, str | float | int | None]]) -> None:
    """Raise DataError with what differs between the validations, or is not known."""
    problems = []
    for key in CONDITIONS:
        values = {label: row[key] for label, row in totals.items()}
        if len(set(values.values())) > 1 and key != "Data":  # a copy of the data may have another name
            problems.append(f"{key}: {', '.join(f'{label} {value}' for label, value in values.items())}")
    if None in {row["Fingerprint"] for row in totals.values()}:
        problems = ["a table has no fingerprint of its data; validate again"]
    if problems:
        raise DataError(
            "table: metrics are subtracted only for equal data, split and size; the runs differ in "
            f"{'; '.join(problems)}. Validate them alike, or list them without differences: diff=False"
        )


def _read_totals(file: Path) -> dict[str, str | float | int | None]:
    """Read the first row, `all`, of a summary CSV."""
    row = dict.fromkeys(("Data", "Split", "Fingerprint"), "") | read_csv(file)[0]  # older files lack these
    try:
        return {key: kind(row[key]) if row[key] else None for key, kind in KINDS.items()}
    except KeyError as error:
        raise DataError(f"{file}: no column {error}; expected a {FILE} written by `yolo val`") from error
    except ValueError as error:
        raise DataError(f"{file}: expected numbers in its first row ({error}); validate again") from error
