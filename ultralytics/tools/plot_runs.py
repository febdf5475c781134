"""`yolo plot-results runs/detect/train runs/detect/train2`: metrics and losses of several runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.tools.compare_runs import distinct_names
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.tables import read_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes


FILE = "results.csv"
METRICS = "metrics"  # columns that start so go into metrics.png, those of losses into losses.png
LOSSES = ("train", "val")
PANELS_WIDE = 3

Curves = dict[str, list[float]]  # column: a value for each epoch, nan where it has none


def command(
    runs: list[str], names: list[str] | str | None = None, project: str | None = None, name: str | None = None
) -> None:
    """Draw metrics.png and losses.png of several runs, a line for each run.

    Args:
        runs: folders of trainings, or their results.csv, those of the published package included.
        names: what the lines shall be called, as many as there are runs; the folders' names by default.
        project: folder of the pictures, `runs/plot` by default.
        name: folder in it, `results` by default; numbered when taken.

    Raises:
        UserError: a run has no results.csv, or one that cannot be read.
    """
    from ultralytics.tools.common import tool_dir

    labels = names.split(",") if isinstance(names, str) else names
    curves = read_runs(runs, labels)
    folder = tool_dir("plot", project, name, "results")
    for file in plot_runs(curves, folder):
        LOGGER.info(f"{file} written")


def read_runs(runs: Sequence[str | Path], names: Sequence[str] | None = None) -> dict[str, Curves]:
    """The columns of each run's results.csv, by the run's name. UserError: see `command`."""
    if names is not None and len(names) != len(runs):
        raise OptionError(f"names: expected {len(runs)}, one for each run, got {len(names)}: {', '.join(names)}")
    files = [Path(run) if Path(run).is_file() else Path(run) / FILE for run in runs]
    for run, file in zip(runs, files, strict=True):
        if not file.is_file():
            raise DataError(f"{run}: expected the folder of a training with {FILE} in it, or such a file")
    labels = list(names or distinct_names([file.parent for file in files]))
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise OptionError(f"runs: {twice!r} is there twice; give different ones, or names=a,b")
    return {label: read_curves(file) for label, file in zip(labels, files, strict=True)}


def read_curves(file: Path) -> Curves:
    """Columns of a results.csv, whose headings may be padded with spaces. DataError for what is no number."""
    rows = read_csv(file)
    if "epoch" not in rows[0]:
        raise DataError(f"{file}: no column 'epoch' among {', '.join(rows[0])}; expected a training's {FILE}")
    curves: Curves = {key: [] for key in rows[0]}
    for number, row in enumerate(rows, 2):  # line 1 has the headings
        for key in curves:
            text = row.get(key) or "nan"  # a run that was killed may leave half a line
            try:
                curves[key].append(float(text))
            except ValueError as error:
                raise DataError(f"{file}, line {number}: {key} is {text!r}, expected a number") from error
    return curves


def plot_runs(runs: dict[str, Curves], folder: Path) -> list[Path]:
    """Draw metrics.png and losses.png, each with a panel for each column that any run has; returns their paths.

    Raises:
        DataError: no run has such a column.
    """
    columns = list(dict.fromkeys(key for curves in runs.values() for key in curves))
    groups = {
        "metrics.png": [key for key in columns if key.partition("/")[0] == METRICS],
        "losses.png": [key for key in columns if key.partition("/")[0] in LOSSES],
    }
    if not any(groups.values()):
        raise DataError(f"{', '.join(runs)}: no columns metrics/..., train/... or val/...; got {', '.join(columns)}")
    return [_draw(runs, keys, folder / name) for name, keys in groups.items() if keys]


def _draw(runs: dict[str, Curves], keys: Sequence[str], path: Path) -> Path:
    from ultralytics.utils.plotting import drawable, new_figure, save_figure

    wide = min(len(keys), 2 if len(keys) == 4 else PANELS_WIDE)
    high = -(-len(keys) // wide)
    figure = new_figure(5 * wide, 3.6 * high + 0.6)
    panels = figure.subplots(high, wide, squeeze=False).ravel()
    for axes, key in zip(panels, keys, strict=False):
        _panel(axes, runs, key)
    for axes in panels[len(keys) :]:
        axes.set_axis_off()
    # A run may lack what the first panel shows, so the legend is made of all runs, not of a panel's lines.
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **_style(index), label=drawable(label)[0]) for index, label in enumerate(runs)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(runs), 4), frameon=False)
    return save_figure(figure, path)


def _panel(axes: Axes, runs: dict[str, Curves], key: str) -> None:
    for index, curves in enumerate(runs.values()):
        if key in curves:
            few = len(curves["epoch"]) < 30  # a single epoch would be no line at all
            axes.plot(curves["epoch"], curves[key], marker="o" if few else None, markersize=3, **_style(index))
    axes.set_title(key.removesuffix("(B)").removeprefix(f"{METRICS}/"), fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


def _style(index: int) -> dict[str, str]:
    """Ten colours, then the same dashed, then dotted."""
    return {"color": f"C{index % 10}", "linestyle": ("-", "--", ":", "-.")[index // 10 % 4]}
