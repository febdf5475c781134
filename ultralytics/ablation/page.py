"""report.html of a study: one file without anything from elsewhere, for a browser, a phone and a printer."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import yaml

from ultralytics.ablation.analysis import Analysis
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
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 96rem; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #8885; white-space: nowrap; }
th { cursor: pointer; border-bottom: 2px solid; }
th[aria-sort=ascending]::after { content: " ▲"; } th[aria-sort=descending]::after { content: " ▼"; }
td:last-child { white-space: normal; min-width: 9rem; }
td:first-child, th:first-child { position: sticky; left: 0; background: Canvas; }
figure { margin: 0; max-width: 60rem; }
img { max-width: 100%; height: auto; background: white; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid #8885; font-size: .85rem; }
.note { font-size: .9rem; }
@media print {
  body { max-width: none; font-size: 10pt; } .wide { overflow: visible; } figure, table { break-inside: avoid; }
}
"""
SCRIPT = """
document.querySelectorAll("th").forEach(head => head.addEventListener("click", () => {
  const table = head.closest("table"), column = [...head.parentNode.children].indexOf(head);
  const rises = head.getAttribute("aria-sort") !== "ascending";
  const value = row => row.children[column].dataset.value ?? row.children[column].textContent;
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)], [m, n] = [Number(x), Number(y)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(m) || isNaN(n) ? x.localeCompare(y) : m - n;
    return rises ? order : -order;
  });
  table.tBodies[0].append(...rows);
  table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rises ? "ascending" : "descending");
}));
"""


def build_page(
    analysis: Analysis, tables: Mapping[str, Table], pictures: Mapping[str, Path], facts: Mapping[str, Any]
) -> str:
    """Return the page: tables that can be sorted, notes, figures, failed runs, the study file and its origin."""
    lang = analysis.spec.lang
    words = WORDS[lang]
    parts = [f"<h1>{words['title']}: {escape(Path(analysis.spec.where).stem)}</h1>"]
    for name, table in tables.items():
        parts.append(f'<h2>{words[name]}</h2><div class="wide">{sortable(table)}</div>')
        if name == "table":
            parts += [f'<p class="note">{escape(note)}</p>' for note in analysis.notes]
            parts.append(f'<p class="note">{words["sort"]}</p>')
    if analysis.failures:
        lines = "\n".join(f"{run.cell.name}, seed {run.seed}: {error}" for run, error in analysis.failures.items())
        parts.append(f"<h2>{words['failures']}</h2><pre>{escape(lines)}</pre>")
    for name, file in pictures.items():
        title = words["cost_figure" if name == "cost" else name]
        parts.append(f"<h2>{title}</h2><figure>{picture(file, title)}</figure>")
    text = yaml.safe_dump(dict(analysis.spec.source), sort_keys=False, allow_unicode=True, default_flow_style=None)
    parts.append(f"<h2>{words['study']}</h2><pre>{escape(text)}</pre>")
    if facts:
        lines = "\n".join(f"{key}: {value}" for key, value in facts.items())
        parts.append(f"<h2>{words['facts']}</h2><pre>{escape(lines)}</pre>")
    return document(words["title"], lang, "\n".join(parts))


def document(title: str, lang: str, body: str) -> str:
    """Return a page with its style and script; it loads nothing."""
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        """<meta http-equiv="Content-Security-Policy" content="default-src data: 'unsafe-inline'">\n"""
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def sortable(table: Table) -> str:
    """Return a table in HTML whose cells carry their unrounded numbers, by which the script sorts."""
    shown = table.marked("html", [[escape(cell) for cell in row] for row in table.cells])
    head = "".join(f"<th>{escape(title)}</th>" for title in table.titles)
    body = []
    for texts, values in zip(shown, table.rows, strict=True):
        cells = []
        for text, value, column in zip(texts, values, table.columns, strict=True):
            number = f' data-value="{value!r}"' if isinstance(value, (int, float)) and value == value else ""
            number = number or (' data-value=""' if column.form else "")
            align = ' style="text-align: right"' if column.form else ""
            cells.append(f"<td{number}{align}>{text}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def picture(file: Path, text: str) -> str:
    """Return an image in HTML that contains the file."""
    kind = "jpeg" if file.suffix == ".jpg" else "png"
    content = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{escape(text)}" src="data:image/{kind};base64,{content}">'
