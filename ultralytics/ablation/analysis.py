"""From the results of runs to the rows of a study's table: scores, paired differences and notes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from ultralytics.ablation.statistics import ALPHA, LEVEL, Comparison, compare_pairs, fewest_pairs
from ultralytics.ablation.study import METRICS, Cell, Run, StudyError, StudySpec
from ultralytics.ablation.worker import collect_result
from ultralytics.utils.errors import counted

Key = tuple[int, int]  # seed and fold: runs with equal keys are a pair
# Options that do not influence the result of a run, or are the change itself, its seed or its data of a fold
NOT_COMPARED = (
    "model", "seed", "data", "project", "name", "exist_ok", "device", "workers", "resume", "resume_changed", "mode",
    "plots", "plot_titles", "save", "save_period", "save_minutes", "save_optimizer", "verbose", "loggers", "modules",
    "trust", "cache", "save_json", "coco_eval", "accelerate",
)  # fmt: skip

NOTES = {
    "en": {
        "caption": "Ablation over {base}.",
        "scored": "{metric} of each run is that of {rule}; mean ± standard deviation over the runs.",
        "last": "the last epoch", "best": "its best epoch", "mean": "the mean of the last {count} epochs",
        "chosen": "The best epoch was chosen on the reported images, which favors noisy runs; `judge: last` avoids it.",
        "seed": "seed", "fold": "seed and fold", "comparison": "comparison",
        "paired": "Differences to {base} are paired by {by}, with their {level:.0%} interval (BCa bootstrap, Student's "
        "t below 5 pairs) and the p of the exact sign-flip permutation test, adjusted by Holm over {count}; "
        "shown: p ≤ {alpha:g}.",
        "few": "With {pairs} pairs the p of {count} cannot be below {alpha:g}, so no difference can be shown; {least} "
        "pairs are the fewest that can.",
        "single": "With fewer than two seeds there is no spread, and there are no verdicts.",
        "data": "{cell}: trained with {data}.",
    },
    "zh": {
        "caption": "以 {base} 为基线的消融实验。",
        "scored": "每次运行的 {metric} 取{rule}；均值 ± 标准差按多次运行计算。",
        "last": "最后一轮", "best": "最佳轮次", "mean": "最后 {count} 轮的均值",
        "chosen": "最佳轮次是在所报告的图片上挑选的，对波动大的运行有利；用 `judge: last` 可避免。",
        "seed": "种子", "fold": "种子和折", "comparison": "次比较",
        "paired": "与 {base} 的差值按{by}配对，给出 {level:.0%} 区间（BCa 自助法，少于 5 对时为 Student t 区间）"
        "和精确符号翻转置换检验的 p，并对 {count}做 Holm 校正；p ≤ {alpha:g} 为得到证实。",
        "few": "{pairs} 对运行、{count}时 p 不可能低于 {alpha:g}，因此无法证实任何差值；至少需要 {least} 对。",
        "single": "种子少于两个时没有离散度，也就没有结论。",
        "data": "{cell}：用 {data} 训练。",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Cost of a network that does not depend on the machine; GFLOPs at the image size of the study."""

    parameters: int
    gflops: float


@dataclass
class CellResult:
    """Scores of a cell and its comparison with the base; None for the base itself."""

    cell: Cell
    size: Size | None
    scores: dict[str, dict[Key, float]] = field(default_factory=dict)  # by metric
    curves: dict[Key, list[float]] = field(default_factory=dict)  # of the study's metric, a value for each epoch
    minutes: dict[Key, list[float]] = field(default_factory=dict)  # of training until the end of each epoch
    comparison: Comparison | None = None

    def mean_std(self, metric: str) -> tuple[float, float]:
        """Return mean and standard deviation of a metric over the runs; nan where there are too few."""
        values = list(self.scores[metric].values())
        return fmean(values) if values else math.nan, stdev(values) if len(values) > 1 else math.nan


@dataclass
class Analysis:
    """All rows of a study, the base first, and notes on how runs were scored."""

    spec: StudySpec
    rows: list[CellResult]
    notes: list[str]
    failures: dict[Run, str] = field(default_factory=dict)


def analyze(
    spec: StudySpec, cells: Sequence[Cell], results: Mapping[Run, Mapping[str, Any]], sizes: Mapping[str, Size]
) -> Analysis:
    """Compare all cells with the base over the runs that are done.

    Raises StudyError if runs were trained on different data, or past runs with options that the study does not have.
    """
    by_cell: dict[str, dict[Key, Mapping[str, Any]]] = {cell.name: {} for cell in cells}
    for run, result in results.items():
        by_cell[run.cell.name][run.key] = result
    for cell in cells:
        for folder in cell.folders:
            result = collect_result(Path(folder))
            key = (result["options"].get("seed", 0), 0)
            if key in by_cell[cell.name]:
                raise StudyError(f"{cell.name}: {folder}: another of its runs has seed {key[0]}, too")
            by_cell[cell.name][key] = result
    remarks = _check_comparable(spec, cells, by_cell)
    recorded = [result["metrics"] for results in by_cell.values() for result in results.values()]
    common = [key for key in recorded[0] if all(key in found for found in recorded)] if recorded else []
    by_size = {key.replace("/", " "): key for key in common if re.search("/AP[a-z]", key)}  # such as coco/APs
    rows = []
    for cell in cells:
        row, done = CellResult(cell, sizes.get(cell.name)), by_cell[cell.name]
        for name, column in {**METRICS, **by_size}.items():
            row.scores[name] = {key: score_of(done[key]["metrics"], column, spec.rule) for key in sorted(done)}
        row.curves = {key: result["metrics"][METRICS[spec.metric]] for key, result in done.items()}
        row.minutes = {key: result.get("minutes", []) for key, result in done.items()}
        rows.append(row)
    base = rows[0].scores[spec.metric]
    differences = {
        row.cell.name: [score - base[key] for key, score in row.scores[spec.metric].items() if key in base]
        for row in rows[1:]
    }
    comparisons = compare_pairs(differences, spec.folds or 1)
    for row in rows[1:]:
        row.comparison = comparisons[row.cell.name]
    return Analysis(spec, rows, _notes(spec, rows) + remarks)


def score_of(metrics: Mapping[str, Sequence[float]], column: str, rule: str | int) -> float:
    """Return the score of a run: that of its last epoch, of its best one (best.pt), or the mean of the last ones."""
    values = metrics[column]
    if rule == "best":  # the first one with the highest mAP50-95
        return values[np.nan_to_num(metrics[METRICS["mAP50-95"]], nan=-math.inf).argmax()]
    return fmean(values[-rule:]) if isinstance(rule, int) else values[-1]


def _check_comparable(
    spec: StudySpec, cells: Sequence[Cell], by_cell: Mapping[str, Mapping[Key, Mapping[str, Any]]]
) -> list[str]:
    """Return notes on runs of other data; raise StudyError if they, or options of past runs, are not comparable."""
    marks: dict[tuple, tuple[str, str]] = {}  # by fold, kind, and source of the data: fingerprint, and the run it is of
    notes = []
    for cell in cells:
        changed = {key for name in cell.changes if name in spec.changes for key in spec.changes[name].train}
        for (seed, fold), result in by_cell[cell.name].items():
            run, options = f"{cell.name}, seed {seed}", result["options"]
            prints = (result.get("environment") or {}).get("fingerprints") or {}
            data = Path(str(options.get("data"))).name
            for kind in ("train labels", "train images", "val labels", "val images"):
                source = (data, options.get("fraction")) if kind.startswith("train") else ()
                if (mark := prints.get(kind)) is None:
                    continue
                first, owner = marks.setdefault((fold, kind, source), (mark, run))
                if first != mark:
                    what = f"{run}: its {kind} differ from those of {owner} ({mark}, {first})"
                    if not spec.changed_data:
                        raise StudyError(
                            f"{what}: the data set was edited between the runs. Delete the folders of the older runs "
                            "to train them again, or write `changed_data: true` into the study"
                        )
                    notes.append(f"{what}.")
            if cell.folders:
                first_base = next(iter(by_cell[cells[0].name].values()), result)
                _check_past_run(spec, run, options, first_base["options"], changed)
                if data != Path(spec.data).name:
                    notes.append(NOTES[spec.lang]["data"].format(cell=cell.name, data=data))
    return list(dict.fromkeys(notes))


def _check_past_run(
    spec: StudySpec, run: str, options: Mapping[str, Any], base: Mapping[str, Any], changed: set[str]
) -> None:
    """Compare the options of a past run with the study's; `base` are those of a run, where null has become a value."""
    expected = spec.checked_options(Cell("", model=spec.model)).to_dict()
    expected |= {key: base.get(key) for key, value in expected.items() if value is None}
    differing = {
        key: value
        for key, value in expected.items()
        if key not in NOT_COMPARED and key not in changed and key in options and options[key] != value
    }
    if differing:
        shown = ", ".join(f"{key}={options[key]!r} in place of {value!r}" for key, value in differing.items())
        raise StudyError(
            f"{run}: was trained with other options than the study: {shown}. Write them under `train:` of the study if "
            "all runs have them; runs of different options are not compared"
        )


def _notes(spec: StudySpec, rows: Sequence[CellResult]) -> list[str]:
    words, compared = NOTES[spec.lang], len(rows) - 1
    pairs = max((row.comparison.n for row in rows[1:] if row.comparison), default=None)
    rule = words["mean"].format(count=spec.rule) if isinstance(spec.rule, int) else words[spec.rule]
    notes = [words["scored"].format(metric=spec.metric, rule=rule)]
    if spec.rule == "best":
        notes.append(words["chosen"])
    by = words["fold" if spec.folds else "seed"]
    facts = {"base": rows[0].cell.name, "level": LEVEL, "alpha": ALPHA, "pairs": pairs, "least": fewest_pairs(compared)}
    facts |= {"by": by, "count": counted(compared, words["comparison"])}
    notes.append(words["paired"].format(**facts))
    if pairs is not None and pairs < facts["least"]:
        notes.append(words["few" if pairs > 1 else "single"].format(**facts))
    return notes
