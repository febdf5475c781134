"""MkDocs hook: fill the options page from the option schema, and the table of export formats from the registry."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from ultralytics.cfg.options import describe_options, option_types
from ultralytics.cfg.values import describe_values
from ultralytics.nn.formats import export_formats

CHINESE = Path(__file__).parent / "zh" / "options.yaml"
HEADINGS = {"en": "| option | default | values | modes | meaning |", "zh": "| 选项 | 默认值 | 取值 | 模式 | 含义 |"}
FORMAT_TEXTS = {  # headings, yes, a file of weights only, a GPU is needed
    "en": (
        "| `format=` | file | half | int8 | dynamic | nms | runs | requires |",
        "yes",
        "weights only",
        ", GPU: `device=0`",
    ),
    "zh": (
        "| `format=` | 文件 | half | int8 | 动态尺寸 | nms | 可运行 | 需要 |",
        "支持",
        "仅权重",
        "，GPU：`device=0`",
    ),
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the markers `<!-- options -->` and `<!-- formats -->` with their tables, in the language of the page."""
    locale = "zh" if page.file.src_uri.startswith("zh/") else "en"
    for marker, tables in (("<!-- options -->", options_tables), ("<!-- formats -->", formats_table)):
        if marker in markdown:
            markdown = markdown.replace(marker, tables(locale))
    return markdown


def formats_table(locale: str) -> str:
    """Return the Markdown table of the export formats."""
    titles, yes, no, gpu = FORMAT_TEXTS[locale]
    lines = [titles, "|---|---|---|---|---|---|---|---|"]
    for name, form in export_formats().items():
        support = [yes if supported else "" for supported in (form.half, form.int8, form.dynamic, form.nms)]
        runs = no if form.load is None else yes
        install = f"`pip install {form.requires}`" if form.requires else ""
        cells = [f"`{name}`", f"`best{form.suffixes[0]}`", *support, runs, install + gpu * form.needs_gpu]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def options_tables(locale: str) -> str:
    """Return one heading and one Markdown table per section of default.yaml."""
    chinese = yaml.safe_load(CHINESE.read_text(encoding="utf-8")) if locale == "zh" else None
    parts = []
    for section, rows in groupby(describe_options(), key=lambda row: row.section):
        title = chinese["sections"][section] if chinese else section
        lines = [f"## {title}", "", HEADINGS[locale], "|---|---|---|---|---|"]
        for row in rows:
            values, text = describe_values(option_types()[row.name]), row.meaning
            if chinese:
                text = chinese["options"][row.name]
                for phrase, translation in chinese["values"].items():
                    values = values.replace(phrase, translation)
            text = text.replace("[", r"\[")  # no Markdown link
            cells = [f"`{row.name}`", f"`{row.default}`", values, ", ".join(row.modes), text]
            lines.append("| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
