"""`yolo plot-results runs/detect/train runs/detect/train2`: metrics and losses of several runs in one picture."""

from collections.abc import Sequence
from pathlib import Path

from ultralytics.tools.common import find_runs, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.fonts import drawable
from ultralytics.utils.plotting import epoch_panels, save_figure
from ultralytics.utils.tables import read_csv

FILE = "results.csv"
GROUPS = {"metrics.png": ("metrics/",), "losses.png": ("train/", "val/")}  # beginnings of the columns in each picture
PANELS_WIDE = 3

Curves = dict[str, list[float]]  # column -> one value per epoch, nan if missing


def command(
    runs: list[str], names: list[str] | str | None = None, project: str | None = None, name: str | None = None
) -> None:
    """Draw metrics.png and losses.png of several runs, with a line for each run.

    Args:
        runs: folders of trainings, or their results.csv, also those of the published package.
        names: one for each run; the folders' names by default.
        project, name: folder of the pictures, `runs/plot/results` by default; numbered when taken.
    """
    files = find_runs(runs, names, FILE, "the folder of a training, or such a file")
    curves = {label: read_curves(file) for label, file in files.items()}
    folder = tool_dir("plot", project, name, "results")
    for file, starts in GROUPS.items():
        keys = list(dict.fromkeys(key for run in curves.values() for key in run if key.startswith(starts)))
        if keys:
            plot_panels(curves, keys, folder / file)
            LOGGER.info(f"{folder / file} written")


def read_curves(file: Path) -> Curves:
    """Read the columns of a results.csv. Raise DataError if a value is not a number."""
    rows = read_csv(file)
    if "epoch" not in rows[0] or not any(key.startswith(sum(GROUPS.values(), ())) for key in rows[0]):
        expected = "expected columns epoch, and metrics/..., train/... or val/..."
        raise DataError(f"{file}: {expected}; got {', '.join(rows[0])}")
    try:
        return {key: [float(row.get(key) or "nan") for row in rows] for key in rows[0]}  # the last line may be cut off
    except ValueError as error:
        raise DataError(f"{file}: {error}, expected numbers") from error


def plot_panels(runs: dict[str, Curves], keys: Sequence[str], file: Path) -> None:
    """Draw a panel for each column, with a line for each run that has it."""
    from matplotlib.lines import Line2D

    titles = [key.removesuffix("(B)").removeprefix("metrics/") for key in keys]
    figure, panels = epoch_panels(titles, min(len(keys), 2 if len(keys) == 4 else PANELS_WIDE), (5, 3.9))
    # ten colors; further runs are dashed or dotted
    styles = [{"color": f"C{i % 10}", "linestyle": ("-", "--", ":", "-.")[i // 10 % 4]} for i in range(len(runs))]
    for axes, key in zip(panels, keys, strict=True):
        for curves, style in zip(runs.values(), styles, strict=True):
            if key in curves:
                marker = "o" if len(curves["epoch"]) < 30 else None  # a single epoch has no line
                axes.plot(curves["epoch"], curves[key], marker=marker, markersize=3, **style)
    # a legend of all runs, since a run may lack the column of a panel
    handles = [Line2D([], [], **style, label=drawable(label)) for label, style in zip(runs, styles, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(runs), 4), frameon=False)
    save_figure(figure, file)
