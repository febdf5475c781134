"""Table and picture of the runs of convergence.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

GOAL = 0.5  # mAP50


def write_report(folder: Path, configs: Sequence[str], seconds: dict[str, float], settings: dict[str, Any]) -> None:
    """Read folder/runs/*-seed*.json and write convergence.md and convergence.png beside it.

    `seconds` are those of a step of each configuration: a run's minutes are its steps times these.
    """
    runs = [json.loads(file.read_text()) for file in sorted((folder / "runs").glob("*-seed*.json"))]
    for run in runs:
        for point in run["points"]:
            point["minutes"] = point["steps"] * seconds.get(run["config"], 0.0) / 60
    by_config = {c: sorted((r for r in runs if r["config"] == c), key=lambda r: r["seed"]) for c in configs}
    by_config = {config: found for config, found in by_config.items() if found}
    (folder / "convergence.md").write_text(table(by_config, seconds, settings))
    draw(by_config, settings, folder / "convergence.png")


def table(by_config: dict[str, list[dict]], seconds: dict[str, float], settings: dict[str, Any]) -> str:
    """Markdown: means over the seeds, and in brackets the least and largest value."""
    heads = ("s a step", f"minutes to mAP50 {GOAL}", "mAP50 at the end", "mAP50-95 at the end", "steps", "better")
    rows = [f"| configuration | seeds | {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) + 1)}"]
    base = next(iter(by_config))
    end = settings["minutes"]
    first = {run["seed"]: curve(run["points"], end) for run in by_config[base]}
    for config, runs in by_config.items():
        shared = [run for run in runs if run["seed"] in first]
        wins = sum(curve(run["points"], end) > first[run["seed"]] for run in shared)
        cells = (
            f"{seconds[config]:.2f}",
            spread([minutes_to(run["points"], GOAL) for run in runs], "{:.1f}"),
            spread([curve(run["points"], end) for run in runs], "{:.3f}"),
            spread([curve(run["points"], end, "map") for run in runs], "{:.3f}"),
            f"{60 * end / seconds[config]:.0f}",
            "" if config == base or not shared else f"{wins} of {len(shared)} seeds",
        )
        rows.append(f"| {config} | {len(runs)} | {' | '.join(cells)} |")
    said = ", ".join(f"{key} {value}" for key, value in settings.items() if value != "")
    return (
        "\n".join(rows) + f"\n\nMeans over the seeds, in brackets the range; better: than {base} at the end. {said}.\n"
    )


def minutes_to(points: Sequence[dict[str, float]], goal: float) -> float | None:
    """When a run first reaches the goal, on the line between two validations; None when it does not."""
    before = {"minutes": 0.0, "map50": 0.0}
    for point in points:
        if point["map50"] >= goal:
            share = (goal - before["map50"]) / (point["map50"] - before["map50"])
            return before["minutes"] + share * (point["minutes"] - before["minutes"])
        before = point
    return None


def spread(values: Sequence[float | None], form: str) -> str:
    """`mean (least-largest)`; how many have a value where some have none."""
    known = [value for value in values if value is not None]
    if not known:
        return "not reached"
    low, high = form.format(min(known)), form.format(max(known))
    text = form.format(sum(known) / len(known)) + (f" ({low}-{high})" if len(known) > 1 else "")
    return text if len(known) == len(values) else f"{text}, reached by {len(known)} of {len(values)}"


def draw(by_config: dict[str, list[dict]], settings: dict[str, Any], file: Path) -> None:
    """mAP50 over minutes: the mean of the seeds as a line, their range as a band."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    moments = np.linspace(0, settings["minutes"], 200)
    for config, runs in by_config.items():
        curves = np.array([curve(run["points"], moments) for run in runs])
        (line,) = axes.plot(moments, curves.mean(0), label=f"{config} ({len(runs)})")
        axes.fill_between(moments, curves.min(0), curves.max(0), color=line.get_color(), alpha=0.15, linewidth=0)
    axes.axhline(GOAL, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="minutes of training", ylabel="mAP50", xlim=(0, settings["minutes"]), ylim=(0, None))
    axes.set_title(f"{settings['data']}, {settings['imgsz']} px, {settings['threads']} threads (number of seeds)")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def curve(points: Sequence[dict[str, float]], minutes: float | np.ndarray, metric: str = "map50") -> float | np.ndarray:
    """A metric at the minutes, on the lines between the validations."""
    return np.interp(minutes, [0, *(p["minutes"] for p in points)], [0, *(p[metric] for p in points)])
