"""`yolo plot-results runs/detect/train runs/detect/train2`: metrics and losses of several runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.tools.common import run_names, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.tables import read_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = "results.csv"
GROUPS = {"metrics.png": ("metrics",), "losses.png": ("train", "val")}  # beginnings of the columns in each picture
PANELS_WIDE = 3

Curves = dict[str, list[float]]  # column -> one value per epoch, nan if missing


def command(
    runs: list[str], names: list[str] | str | None = None, project: str | None = None, name: str | None = None
) -> None:
    """Draw metrics.png and losses.png of several runs, with a line for each run.

    Args:
        runs: folders of trainings, or their results.csv, also those of the published package.
        names: one for each run; the folders' names by default.
        project: folder of the pictures, `runs/plot` by default.
        name: folder in it, `results` by default; numbered when taken.

    Raises:
        UserError: a run has no results.csv, or one that cannot be read.
    """
    curves = read_runs(runs, names)
    for file in plot_runs(curves, tool_dir("plot", project, name, "results")):
        LOGGER.info(f"{file} written")


def read_runs(runs: Sequence[str | Path], names: Sequence[str] | str | None = None) -> dict[str, Curves]:
    """Read the results.csv of each run, by the name of the run. Raise UserError as in `command`."""
    files = [Path(run) if Path(run).is_file() else Path(run) / FILE for run in runs]
    for run, file in zip(runs, files, strict=True):
        if not file.is_file():
            raise DataError(f"{run}: expected the folder of a training with {FILE} in it, or such a file")
    labels = run_names(runs, [file.parent for file in files], names)
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise OptionError(f"runs: {twice[0]!r} is given twice; give different ones, or names=a,b")
    return {label: read_curves(file) for label, file in zip(labels, files, strict=True)}


def read_curves(file: Path) -> Curves:
    """Read the columns of a results.csv. Raise DataError if a value is not a number."""
    rows = read_csv(file)
    if "epoch" not in rows[0]:
        raise DataError(f"{file}: no column 'epoch' among {', '.join(rows[0])}; expected a training's {FILE}")
    curves: Curves = {key: [] for key in rows[0]}
    for number, row in enumerate(rows, 2):  # line 1 has the headings
        for key in curves:
            text = row.get(key) or "nan"  # the last line may be cut off
            try:
                curves[key].append(float(text))
            except ValueError as error:
                raise DataError(f"{file}, line {number}: {key} is {text!r}, expected a number") from error
    return curves


def plot_runs(runs: dict[str, Curves], folder: Path) -> list[Path]:
    """Draw metrics.png and losses.png with a panel for each column of any run, and return their paths.

    Raises:
        DataError: no run has a column for them.
    """
    from matplotlib.lines import Line2D

    from ultralytics.utils.plotting import drawable, new_figure, save_figure

    columns = list(dict.fromkeys(key for curves in runs.values() for key in curves))
    groups = {name: [key for key in columns if key.partition("/")[0] in starts] for name, starts in GROUPS.items()}
    if not any(groups.values()):
        raise DataError(f"{', '.join(runs)}: no columns metrics/..., train/... or val/...; got {', '.join(columns)}")
    files = []
    for name, keys in ((name, keys) for name, keys in groups.items() if keys):
        wide = min(len(keys), 2 if len(keys) == 4 else PANELS_WIDE)
        high = -(-len(keys) // wide)
        figure = new_figure(5 * wide, 3.6 * high + 0.6)
        panels = figure.subplots(high, wide, squeeze=False).ravel()
        for axes, key in zip(panels, keys, strict=False):
            _draw_panel(axes, runs, key)
        for axes in panels[len(keys) :]:
            axes.set_axis_off()
        # of all runs, since a run may lack the column of a panel
        handles = [Line2D([], [], **_style(index), label=drawable(label)) for index, label in enumerate(runs)]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(runs), 4), frameon=False)
        files.append(save_figure(figure, folder / name))
    return files


def _draw_panel(axes: Axes, runs: dict[str, Curves], key: str) -> None:
    for index, curves in enumerate(runs.values()):
        if key in curves:
            marker = "o" if len(curves["epoch"]) < 30 else None  # a single epoch has no line
            axes.plot(curves["epoch"], curves[key], marker=marker, markersize=3, **_style(index))
    axes.set_title(key.removesuffix("(B)").removeprefix("metrics/"), fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


def _style(index: int) -> dict[str, str]:
    """Return one of ten colors; further runs are dashed or dotted."""
    return {"color": f"C{index % 10}", "linestyle": ("-", "--", ":", "-.")[index // 10 % 4]}
