"""Pictures of a training: the columns of results.csv over the epochs, and what the labels look like."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ultralytics.utils.figures import new_figure, save_figure
from ultralytics.utils.fonts import drawable


def plot_results(file: str | Path) -> Path:
    """Draw results.csv into results.png beside it; train and val of one loss share a panel. Returns the path."""
    file = Path(file)
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, skipinitialspace=True))
    if not rows:
        raise ValueError(f"{file}: got no rows, expected one for each epoch")
    columns = {name.strip(): np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    epochs = columns["epoch"]

    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, values in columns.items():
        group, _, rest = name.partition("/")
        if group in ("train", "val"):
            panels.setdefault(rest, {})[group] = values
        elif group == "metrics":
            panels[rest.removesuffix("(B)")] = {"": values}
        elif group == "lr":
            panels.setdefault("learning rate", {})[rest] = values
    wide = min(4, len(panels))
    high = math.ceil(len(panels) / wide)
    figure = new_figure(4 * wide, 3 * high)
    grid = figure.subplots(high, wide, squeeze=False).ravel()
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        _panel(axes, title, epochs, lines)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return save_figure(figure, file.with_name("results.png"))


def _panel(axes, title: str, epochs: np.ndarray, lines: Mapping[str, np.ndarray]) -> None:
    """One quantity over the epochs. A single number is given with its best value in the title."""
    for label, values in lines.items():
        axes.plot(epochs, values, marker="o" if len(epochs) < 40 else None, markersize=3, label=label)
    if "" in lines and not np.isnan(lines[""]).all():
        best = np.nanargmax(lines[""])
        title = f"{title} (best {lines[''][best]:.3f} at epoch {epochs[best]:.0f})"
    elif len(lines) > 1:
        axes.legend(frameon=False)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


def plot_labels(boxes: np.ndarray, cls: np.ndarray, names: Mapping[int, str], path: str | Path) -> Path:
    """Draw what the labels are like: objects per class, outlines, centres, and sizes.

    Args:
        boxes: (n, 4) cx, cy, w, h in 0..1.
        cls: (n,) class index of each.
        names: class index to name.
        path: picture to write.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    boxes, cls = np.asarray(boxes, dtype=float).reshape(-1, 4), np.asarray(cls).astype(int).reshape(-1)
    figure = new_figure(12, 10)
    (bars, outlines), (centres, sizes) = figure.subplots(2, 2)

    counts = np.bincount(cls, minlength=len(names))
    bars.bar(range(len(counts)), counts, color=[f"C{i % 10}" for i in range(len(counts))])
    if 0 < len(names) <= 100:
        font = min(10, 400 / len(names))
        texts = [drawable(name)[0] for name in names.values()]
        bars.set_xticks(range(len(names)), texts, rotation=90 if len(names) > 6 else 0, fontsize=font)
    if len(names) <= 30:
        bars.bar_label(bars.containers[0], fontsize=8)
    bars.set(title=f"Objects per class ({len(cls)} in all)", ylabel="objects")
    bars.margins(x=0.01, y=0.1)

    # A thousand outlines fill the square; they are spread over the data set, and the same at every call.
    shown = np.linspace(0, len(boxes) - 1, min(len(boxes), 1000)).astype(int)
    patches = [Rectangle((x - w / 2, y - h / 2), w, h) for x, y, w, h in boxes[shown]]
    edges = [f"C{c % 10}" for c in cls[shown]]
    outlines.add_collection(PatchCollection(patches, facecolor="none", edgecolor=edges, linewidth=0.5, alpha=0.5))
    outlines.set(title=f"Outlines ({len(shown)} of {len(boxes)})", xlim=(0, 1), ylim=(1, 0), aspect="equal")

    unit = [[0, 1], [0, 1]]
    for axes, pair, title, labels in (
        (centres, boxes[:, :2], "Centres (objects per cell)", ("x / image width", "y / image height")),
        (sizes, boxes[:, 2:], "Sizes (objects per cell)", ("box width / image width", "box height / image height")),
    ):
        *_, image = axes.hist2d(*pair.T, bins=50, range=unit, cmap="Blues", cmin=1)
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1], aspect="equal")
    centres.invert_yaxis()  # as in the image: y grows downwards
    return save_figure(figure, Path(path))
