"""Figures of a study: curves over epochs, paired differences, accuracy over cost, and detections side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ultralytics.ablation.analysis import Analysis, CellResult
from ultralytics.models import Model
from ultralytics.models.benchmark import Speed
from ultralytics.utils.fonts import drawable
from ultralytics.utils.plotting import new_figure, save_figure

LABELS = {
    "en": {
        "epoch": "epoch", "minutes": "minutes of training", "diff": "difference to {base}, {metric}",
        "gflops": "GFLOPs", "latency": "latency (ms), folded",
    },
    "zh": {
        "epoch": "轮次", "minutes": "训练时间（分钟）", "diff": "与 {base} 的差值，{metric}", "gflops": "GFLOPs",
        "latency": "延迟 (ms)，折叠 BN",
    },
}  # fmt: skip


def figure_words(lang: str) -> dict[str, str]:
    """Return the labels of figures in a language, or in English if no font of the system can draw them."""
    words = LABELS[lang]
    return words if drawable(words["epoch"]) == words["epoch"] else LABELS["en"]


def draw_all(analysis: Analysis, folder: Path, speeds: Mapping[str, Speed]) -> dict[str, Path]:
    """Draw curves.png, forest.png and cost.png, each also as PDF, and return their paths by name."""
    drawn = {"curves": draw_curves(analysis, folder / "curves.png")}
    if any(row.comparison and row.comparison.n for row in analysis.rows[1:]):
        drawn["forest"] = draw_forest(analysis, folder / "forest.png")
    if any(row.size for row in analysis.rows):
        drawn["cost"] = draw_cost(analysis, speeds, folder / "cost.png")
    return drawn


def draw_detections(weights: Mapping[str, Path], images: Sequence[Path], file: Path) -> Path:
    """Draw the detections of each cell side by side, a row for each image; `weights` is a file for each cell."""
    shown: dict[str, list[np.ndarray]] = {}
    for name, path in weights.items():
        results = Model(path, trust=True).predict([str(image) for image in images], verbose=False, trust=True)
        shown[name] = [result.plot() for result in results]
    figure = new_figure(3.6 * len(shown), 3.0 * len(images) + 0.3)
    panels = figure.subplots(len(images), len(shown), squeeze=False)
    for column, (name, pictures) in enumerate(shown.items()):
        panels[0, column].set_title(drawable(name), fontsize=10)
        for axes, picture in zip(panels[:, column], pictures, strict=True):
            axes.imshow(picture[..., ::-1])
            axes.set_axis_off()
    return save_figure(figure, file)


def draw_curves(analysis: Analysis, file: Path) -> Path:
    """Draw the mean of each cell over its runs, and the band of one standard deviation.

    The horizontal axis has epochs, or minutes if the option `time` limits the runs of the study.
    """
    timed = bool(analysis.spec.train.get("time"))
    axes = new_figure(8, 5).subplots()
    for i, row in enumerate(row for row in analysis.rows if row.curves):
        places, values = common_places(row, timed=timed)
        mean = values.mean(0)
        color = "black" if row is analysis.rows[0] else f"C{i % 10}"
        name = f"{row.cell.name} ({len(values)})"
        marker = "o" if len(places) < 10 else None
        axes.plot(places, mean, color=color, label=drawable(name), marker=marker, markersize=3)
        if len(values) > 1:
            std = values.std(0, ddof=1)
            axes.fill_between(places, mean - std, mean + std, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel=figure_words(analysis.spec.lang)["minutes" if timed else "epoch"], ylabel=analysis.spec.metric)
    axes.xaxis.get_major_locator().set_params(integer=not timed)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return save_figure(axes.figure, file, also="pdf")


def common_places(row: CellResult, *, timed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return epochs, or minutes, that all runs of a cell have reached, (n,), and their scores there, (runs, n)."""
    length = min(map(len, row.curves.values()))
    if not timed:
        return np.arange(1, length + 1), np.array([curve[:length] for curve in row.curves.values()])
    ends = row.minutes.values()
    places = np.linspace(max(end[0] for end in ends), min(end[-1] for end in ends), max(length, 2))
    return places, np.array([np.interp(places, row.minutes[key], curve) for key, curve in row.curves.items()])


def draw_forest(analysis: Analysis, file: Path) -> Path:
    """Draw the paired difference of each cell to the base, its interval, and the difference of every pair."""
    rows = [row for row in analysis.rows[1:] if row.comparison and row.comparison.n]
    axes = new_figure(8, 1.2 + 0.5 * len(rows)).subplots()
    base = analysis.rows[0].scores[analysis.spec.metric]
    for place, row in enumerate(rows):
        result, scores = row.comparison, row.scores[analysis.spec.metric]
        color = {"better": "C2", "worse": "C3"}.get(result.verdict, "0.35")
        pairs = [score - base[key] for key, score in scores.items() if key in base]
        axes.scatter(pairs, [place + 0.16] * len(pairs), s=10, color="0.7", zorder=2)
        if not math.isnan(result.low):
            axes.plot([result.low, result.high], [place, place], color=color, linewidth=2)
        axes.scatter([result.mean], [place], color=color, marker="s", s=40, zorder=3)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [drawable(f"{row.cell.name} ({row.comparison.n})") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    text = figure_words(analysis.spec.lang)["diff"].format(base=analysis.rows[0].cell.name, metric=analysis.spec.metric)
    axes.set_xlabel(text)
    axes.grid(axis="x", alpha=0.3)
    return save_figure(axes.figure, file, also="pdf")


def draw_cost(analysis: Analysis, speeds: Mapping[str, Speed], file: Path) -> Path:
    """Draw the mean score of each cell over its GFLOPs and, where it was measured, over its latency."""
    words = figure_words(analysis.spec.lang)
    panels = [(words["gflops"], {row.cell.name: row.size.gflops for row in analysis.rows if row.size})]
    if speeds:
        panels.append((words["latency"], {name: speed.folded for name, speed in speeds.items()}))
    figure = new_figure(5.5 * len(panels), 4.5)
    for axes, (title, costs) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for i, row in enumerate(analysis.rows):
            mean, std = row.mean_std(analysis.spec.metric)
            if row.cell.name in costs and not math.isnan(mean):
                color = "black" if i == 0 else f"C{i % 10}"
                error = None if math.isnan(std) else std
                axes.errorbar(costs[row.cell.name], mean, yerr=error, fmt="o", color=color, capsize=3)
                point = (costs[row.cell.name], mean)
                axes.annotate(drawable(row.cell.name), point, (5, 5), textcoords="offset points", fontsize=8)
        axes.set(xlabel=title, ylabel=analysis.spec.metric)
        axes.margins(0.15)
        axes.grid(alpha=0.3)
    return save_figure(figure, file, also="pdf")
