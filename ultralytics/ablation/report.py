"""Tables of a study and report.html, in English or Chinese, and the folder of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from ultralytics.ablation.analysis import NOTES, Analysis, CellResult
from ultralytics.ablation.figures import draw_all, draw_detections
from ultralytics.ablation.statistics import Comparison
from ultralytics.metrics.html import document, section
from ultralytics.models.benchmark import Speed
from ultralytics.utils import LOGGER, setup_logging
from ultralytics.utils.checks import is_installed
from ultralytics.utils.errors import reported
from ultralytics.utils.files import atomic_write, write_text
from ultralytics.utils.tables import BEST, SECOND, Cell, Column, Table

TABLE, COST = "table", "cost"  # stems of the files
CHECK = "✓"
ZH = {
    "Cell": "配置", "Params (M)": "参数量 (M)", "Runs": "运行数", "diff.": "差值", "interval": "95% 置信区间",
    "p (Holm)": "p（Holm 校正）", "Verdict": "结论", "std": "标准差", "Folded (ms)": "折叠 BN (ms)", "± (ms)": "± (ms)",
    "FPS (folded)": "FPS（折叠 BN）", "Optimized (ms)": "优化 (ms)", "Rewrites": "改写数",
    "Memory (MB)": "内存 (MB)",
}  # fmt: skip
VERDICTS_ZH = {
    "better": "更好", "worse": "更差", "not shown": "未得到证实", "needs about": "约需", "needs more than": "需多于",
    "needs at least": "至少需要", "runs each": "次运行", "seeds": "个种子",
    "pairs cannot give p below": "对运行的 p 不可能低于",
}  # fmt: skip
WORDS = {  # of the page
    "en": {
        "title": "Ablation study", "table": "Results", "cost": "Cost", "curves": "Curves",
        "forest": "Paired differences", "cost_figure": "Accuracy over cost", "detections": "Detections",
        "failures": "Failed runs", "study": "Study file", "facts": "Origin", "sort": "Click on a title to sort.",
    },
    "zh": {
        "title": "消融实验", "table": "结果", "cost": "开销", "curves": "训练曲线", "forest": "配对差值",
        "cost_figure": "精度与开销", "detections": "检测结果对比", "failures": "失败的运行", "study": "实验文件",
        "facts": "环境", "sort": "点击表头可排序。",
    },
}  # fmt: skip


def label(title: str, lang: str) -> str:
    return ZH.get(title, title) if lang == "zh" else title


def verdict(comparison: Comparison, lang: str) -> str:
    text = comparison.verdict
    for english, chinese in VERDICTS_ZH.items() if lang == "zh" else ():
        text = text.replace(english, chinese)
    return text


def study_table(analysis: Analysis) -> Table:
    """Return a row for each cell: its changes, size, scores, and the paired difference to the base with its verdict.

    Changes have columns if a cell has several; else its name is that of its change. The best mean of each metric is
    marked, and the second best. The table depends on no clock: the same runs give the same one.
    """
    spec, lang = analysis.spec, analysis.spec.lang
    others = [name for name in analysis.rows[0].scores if name != spec.metric]  # also AP by object size
    combined = any(len(row.cell.changes) > 1 for row in analysis.rows)
    changes = [name for name in spec.changes if combined and any(name in row.cell.changes for row in analysis.rows)]
    columns = [
        Column(label("Cell", lang)), *map(Column, changes), Column(label("Params (M)", lang), ".2f"),
        Column("GFLOPs", ".2f"), Column(label("Runs", lang), "d"), Column(spec.metric, ".3f"), Column("±", ".3f"),
        *(Column(name, ".3f") for name in others), Column(label("diff.", lang), "+.3f"),
        Column(label("interval", lang)), Column(label("p (Holm)", lang), ".2g"), Column(label("Verdict", lang)),
    ]  # fmt: skip
    rows = [_row(row, changes, spec.metric, others, lang) for row in analysis.rows]
    marks: dict[tuple[int, int], str] = {}
    for column, title in enumerate(column.title for column in columns):
        if title in (spec.metric, *others):
            values = sorted({row[column] for row in rows if not math.isnan(row[column])}, reverse=True)
            for place, mark in zip(values, (BEST, SECOND), strict=False):
                marks |= {(i, column): mark for i, row in enumerate(rows) if row[column] == place}
    return Table(columns, rows, marks)


def _row(row: CellResult, changes: Sequence[str], metric: str, others: Sequence[str], lang: str) -> list[Cell]:
    cells: list[Cell] = [row.cell.name, *(CHECK if name in row.cell.changes else "" for name in changes)]
    cells += [row.size.parameters / 1e6, row.size.gflops] if row.size else [None, None]
    mean, std = row.mean_std(metric)
    cells += [len(row.scores[metric]), mean, std, *(row.mean_std(name)[0] for name in others)]
    if row.comparison is None or not row.comparison.n:
        return [*cells, None, "", None, ""]
    c = row.comparison
    interval = "" if math.isnan(c.low) else f"[{c.low:+.3f}, {c.high:+.3f}]"
    return [*cells, c.mean, interval, c.adjusted, verdict(c, lang)]


def cost_table(analysis: Analysis, speeds: Mapping[str, Speed]) -> Table:
    """Return accuracy beside the measured cost of every cell, folded alike, and optimized in a column of its own."""
    lang, metric = analysis.spec.lang, analysis.spec.metric
    titles = (
        ("Cell", ""), ("Params (M)", ".2f"), ("GFLOPs", ".2f"), (metric, ".3f"), ("Folded (ms)", ".2f"),
        ("± (ms)", ".2f"), ("FPS (folded)", ".1f"), ("Optimized (ms)", ".2f"), ("Rewrites", "d"),
        ("Memory (MB)", ".0f"),
    )  # fmt: skip
    rows = []
    for row in analysis.rows:
        if (speed := speeds.get(row.cell.name)) and row.size:
            times = speed.folded, speed.spread, 1000 / speed.folded, speed.optimized, speed.rewrites, speed.memory
            size = (row.size.parameters / 1e6, row.size.gflops)
            rows.append([row.cell.name, *size, row.mean_std(metric)[0], *times])
    return Table([Column(label(title, lang), form) for title, form in titles], rows)


def write_xlsx(file: Path, tables: Mapping[str, Table]) -> None:
    """Write tables as the sheets of a workbook, with numbers as numbers; skipped, with a message, without openpyxl."""
    if not is_installed("openpyxl"):
        LOGGER.info(f"{file.name} needs openpyxl and is not written: pip install openpyxl")
        return
    from openpyxl import Workbook
    from openpyxl.styles import Font

    book = Workbook()
    book.remove(book.active)
    for name, table in tables.items():
        sheet = book.create_sheet(name)
        sheet.append(table.titles)
        for row in table.rows:
            sheet.append([None if isinstance(cell, float) and math.isnan(cell) else cell for cell in row])
        for cell in sheet[1]:
            cell.font = Font(bold=True)
        for (row, column), mark in table.marks.items():
            font = Font(bold=mark == BEST, underline=None if mark == BEST else "single")
            sheet.cell(row + 2, column + 1).font = font
        sheet.freeze_panes = "B2"
    with atomic_write(file) as stream:
        book.save(stream)


def build_page(
    analysis: Analysis, tables: Mapping[str, Table], pictures: Mapping[str, Path], facts: Mapping[str, Any]
) -> str:
    """Return report.html, one file without anything from elsewhere, for a browser, a phone and a printer.

    It has tables that can be sorted, notes, figures, failed runs, the study file and its origin.
    """
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


def write_report(
    analysis: Analysis, folder: Path, speeds: Mapping[str, Speed] | None = None,
    facts: Mapping[str, Any] | None = None, detectors: Mapping[str, Path] | None = None, images: Sequence[Path] = (),
) -> None:  # fmt: skip
    """Write table.*, cost.*, the figures and report.html into the folder of a study, and log the table.

    Args:
        analysis: of the study.
        speeds: measured latencies by cell, if there are any.
        facts: versions, machine and command of the report page.
        detectors: weights of the cells whose detections are drawn side by side on `images`.
    """
    table = study_table(analysis)
    tables = {TABLE: table}
    caption = NOTES[analysis.spec.lang]["caption"].format(base=analysis.rows[0].cell.name)
    table.write(folder, TABLE, " ".join([caption, *analysis.notes]))
    write_text(folder / "notes.txt", "".join(f"{note}\n" for note in analysis.notes))
    if speeds:
        tables[COST] = cost_table(analysis, speeds)
        tables[COST].write(folder, COST, "Accuracy and cost, measured in turns on one machine.")
    write_xlsx(folder / f"{TABLE}.xlsx", tables)
    pictures = {}
    if any(row.curves for row in analysis.rows):
        with reported("figures"):
            pictures = draw_all(analysis, folder, speeds or {})
    if detectors and images:
        with reported("detections"):
            pictures["detections"] = draw_detections(detectors, images, folder / "detections.png")
    setup_logging()
    with reported("report.html"):
        write_text(folder / "report.html", build_page(analysis, tables, pictures, facts or {}))
    LOGGER.info(table.text())
    for note in analysis.notes:
        LOGGER.info(note)
    LOGGER.info(f"{folder}: {TABLE}.txt and its other formats, figures and report.html written")
