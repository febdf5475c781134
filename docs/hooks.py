"""MkDocs hook: fill the options page from the option schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ultralytics.cfg.options import DEFAULT_CFG_PATH, MODES, default_values, option_types
from ultralytics.cfg.values import describe_values

CHINESE = Path(__file__).parent / "zh" / "options.yaml"
HEADINGS = {"en": "| option | default | values | modes | meaning |", "zh": "| 选项 | 默认值 | 取值 | 模式 | 含义 |"}


class OptionRow(NamedTuple):
    """One option of the generated options page."""

    section: str
    name: str
    values: str
    default: object
    modes: tuple[str, ...]
    description: str


def schema() -> Iterator[OptionRow]:
    """Yield every option in the order of default.yaml, with its section, modes and description from there.

    Examples:
        >>> next(row for row in schema() if row.name == "lrf").values
        'a number in [0, 1]'
    """
    modes = rf"\(((?:{'|'.join(MODES)})(?:, \w+)*)\)"
    title, shared = "", ""
    text = re.sub(r"\n {10,}# ", " ", DEFAULT_CFG_PATH.read_text(encoding="utf-8"))  # join continuation lines
    for line in text.splitlines():
        if section := re.fullmatch(rf"# (.+) {modes} -+", line):
            title, shared = section.groups()
        elif option := re.fullmatch(rf"(\w+): \S+ +# (?:{modes} )?(.+)", line):
            name, own, description = option.groups()
            values = describe_values(option_types()[name])
            yield OptionRow(
                title, name, values, default_values()[name], tuple((own or shared).split(", ")), description
            )


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the marker `<!-- options -->` with the tables of all options, in the language of the page."""
    if "<!-- options -->" not in markdown:
        return markdown
    locale = "zh" if page.file.src_uri.startswith("zh/") else "en"
    return markdown.replace("<!-- options -->", options_tables(locale))


def options_tables(locale: str) -> str:
    """Return one heading and one Markdown table per section of default.yaml."""
    chinese = yaml.safe_load(CHINESE.read_text(encoding="utf-8")) if locale == "zh" else None
    parts = []
    for section, rows in groupby(schema(), key=lambda row: row.section):
        title = chinese["sections"][section] if chinese else section
        lines = [f"## {title}", "", HEADINGS[locale], "|---|---|---|---|---|"]
        for row in rows:
            values, text = row.values, row.description
            if chinese:
                text = chinese["options"][row.name]
                for phrase, translation in chinese["values"].items():
                    values = values.replace(phrase, translation)
            text = text.replace("[", r"\[")  # no Markdown link
            cells = [f"`{row.name}`", f"`{_yaml(row.default)}`", values, ", ".join(row.modes), text]
            lines.append("| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...").strip()
