"""report.html of a study: one file without anything from elsewhere, for a browser, a phone and a printer."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import yaml

from ultralytics.ablation.analysis import Analysis
from ultralytics.metrics.html import document, section
from ultralytics.utils.tables import Table

WORDS = {
    "en": {
        "title": "Ablation study", "table": "Results", "cost": "Cost", "curves": "Curves",
        "forest": "Paired differences",
        "cost_figure": "Accuracy over cost", "detections": "Detections", "failures": "Failed runs",
        "study": "Study file", "facts": "Origin", "sort": "Click on a title to sort.",
    },
    "zh": {
        "title": "消融实验", "table": "结果", "cost": "开销", "curves": "训练曲线", "forest": "配对差值",
        "cost_figure": "精度与开销", "detections": "检测结果对比", "failures": "失败的运行", "study": "实验文件",
        "facts": "环境", "sort": "点击表头可排序。",
    },
}  # fmt: skip


def build_page(
    analysis: Analysis, tables: Mapping[str, Table], pictures: Mapping[str, Path], facts: Mapping[str, Any]
) -> str:
    """Return the page: tables that can be sorted, notes, figures, failed runs, the study file and its origin."""
    lang = analysis.spec.lang
    words = WORDS[lang]
    parts = [f"<h1>{words['title']}: {escape(Path(analysis.spec.where).stem)}</h1>"]
    for name, table in tables.items():
        notes = [*map(escape, analysis.notes), words["sort"]] if name == "table" else []
        parts.append(section(words[name], table, *notes))
    if analysis.failures:
        lines = "\n".join(f"{run.cell.name}, seed {run.seed}: {error}" for run, error in analysis.failures.items())
        parts.append(f"<h2>{words['failures']}</h2><pre>{escape(lines)}</pre>")
    parts += [section(words["cost_figure" if name == "cost" else name], file) for name, file in pictures.items()]
    text = yaml.safe_dump(dict(analysis.spec.source), sort_keys=False, allow_unicode=True, default_flow_style=None)
    parts.append(f"<h2>{words['study']}</h2><pre>{escape(text)}</pre>")
    if facts:
        lines = "\n".join(f"{key}: {value}" for key, value in facts.items())
        parts.append(f"<h2>{words['facts']}</h2><pre>{escape(lines)}</pre>")
    return document(words["title"], lang, "\n".join(parts))
