"""Tables as text, Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.utils.checks import require
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import read_text, write_text

if TYPE_CHECKING:
    import pandas

ABSENT, CELL_WIDTH = "-", 40  # characters of a cell on a terminal
SUFFIXES = ("txt", "md", "tex", "csv")
Cell = str | int | float | None

_TEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "✓": r"\checkmark{}", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "×": r"$\times$",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
})  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column: its title, and the format specification of its numbers, empty for texts.

    Texts are aligned left, numbers right. CSV files have unformatted numbers.
    """

    title: str
    form: str = ""

    def show(self, cell: Cell) -> str:
        """Format a cell; None and nan become a dash."""
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return ABSENT
        return format(cell, self.form) if self.form and not isinstance(cell, str) else str(cell)


BEST, SECOND = "best", "second"  # marks of cells, in bold and underlined
MARKS = {  # by format: around a cell with the mark
    "markdown": {BEST: ("**", "**"), SECOND: ("<u>", "</u>")},
    "latex": {BEST: (r"\textbf{", "}"), SECOND: (r"\underline{", "}")},
    "html": {BEST: ("<b>", "</b>"), SECOND: ("<u>", "</u>")},
}


@dataclass(frozen=True)
class Table:
    """Columns, and rows of as many cells: texts, numbers, or None for unknown values.

    `marks` has BEST or SECOND by (row, column) of some cells; text and CSV do not show them.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)

    @property
    def cells(self) -> list[list[str]]:
        return [[c.show(cell) for c, cell in zip(self.columns, row, strict=True)] for row in self.rows]

    @property
    def titles(self) -> list[str]:
        return [column.title for column in self.columns]

    def text(self) -> str:
        """Return the table for the terminal. Long cells, except in the last column, are cut in the middle."""
        limits = *[CELL_WIDTH] * (len(self.columns) - 1), math.inf
        lines = [[*map(_one_line, line, limits)] for line in (self.titles, *self.cells)]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(self._justified, line, widths, self.columns)).rstrip() for line in lines)

    def markdown(self) -> str:
        """Return the table in Markdown."""
        rule = ["---:" if column.form else "---" for column in self.columns]
        lines = [self.titles, rule, *self.cells]
        lines = [[_one_line(cell).replace("\\", "\\\\").replace("|", "\\|") for cell in line] for line in lines]
        lines[2:] = self.marked("markdown", lines[2:])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def latex(self, caption: str, label: str) -> str:
        r"""Return a floating table, with all texts escaped.

        The document needs `\usepackage{booktabs}` and, for symbols, an encoding such as T1.
        """
        shape = "".join("r" if column.form else "l" for column in self.columns)
        lines = [[escape_latex(cell) for cell in line] for line in (self.titles, *self.cells)]
        lines[1:] = self.marked("latex", lines[1:])
        head, *body = (" & ".join(line) + r" \\" for line in lines)
        checkmark = [r"\providecommand{\checkmark}{\ensuremath{\surd}} % amssymb has a better one"]
        return "\n".join([
            *(checkmark if any("✓" in cell for row in self.cells for cell in row) else []),
            r"\begin{table}[t]", r"  \centering", rf"  \caption{{{escape_latex(caption)}}}",
            rf"  \label{{{re.sub(r'[^A-Za-z0-9:.-]+', '-', label)}}}", rf"  \begin{{tabular}}{{{shape}}}",
            r"    \toprule", f"    {head}", r"    \midrule", *(f"    {line}" for line in body), r"    \bottomrule",
            r"  \end{tabular}", r"\end{table}",
        ])  # fmt: skip

    def html(self) -> str:
        """Return the table in HTML, whose cells carry their unrounded numbers, by which a page can sort."""
        styles = ['style="text-align: right"' if c.form else 'style="text-align: left"' for c in self.columns]
        titles = [escape(title).replace("-", "-&NoBreak;") for title in self.titles]
        head = "".join(f"<th {style}>{title}</th>" for style, title in zip(styles, titles, strict=True))
        body, columns = [], list(zip(styles, self.columns, strict=True))
        shown = self.marked("html", [[*map(escape, row)] for row in self.cells])
        for texts, values in zip(shown, self.rows, strict=True):
            cells = []
            for text, value, (style, column) in zip(texts, values, columns, strict=True):
                number = f' data-value="{value!r}"' if isinstance(value, (int, float)) and value == value else ""
                number = number or (' data-value=""' if column.form else "")
                cells.append(f"<td{number} {style}>{text}</td>")
            body.append(f"<tr>{''.join(cells)}</tr>")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"

    def csv(self) -> str:
        """Return CSV with unformatted numbers; None and nan are empty cells."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.titles)
        for row in self.rows:
            writer.writerow(["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row])
        return text.getvalue()

    def write(self, folder: Path, stem: str, caption: str) -> list[Path]:
        """Write `stem`.txt, .md, .tex and .csv into a folder, and return their paths."""
        latex = self.latex(caption, f"tab:{stem}")
        return write_tables(folder, stem, self.text(), self.markdown(), latex, self.csv())

    def marked(self, form: str, lines: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return the cells of all rows, with the signs of a format around those that have a mark."""
        signs = MARKS[form]
        around = {place: signs[mark] for place, mark in self.marks.items()}
        return [
            [cell.join(around.get((row, column), ("", ""))) for column, cell in enumerate(line)]
            for row, line in enumerate(lines)
        ]

    @staticmethod
    def _justified(cell: str, width: int, column: Column) -> str:
        space = " " * (width - _width(cell))
        return space + cell if column.form else cell + space


def write_tables(folder: Path, stem: str, *texts: str) -> list[Path]:
    """Write the text, Markdown, LaTeX and CSV of a table into a folder, and return the paths of the files."""
    files = [folder / f"{stem}.{suffix}" for suffix in SUFFIXES]
    return [write_text(file, text.rstrip("\n") + "\n") for file, text in zip(files, texts, strict=True)]


def escape_latex(text: str) -> str:
    r"""Escape the special characters of LaTeX: `a_b & c` becomes `a\_b \& c`; line breaks become spaces."""
    return _one_line(text).translate(_TEX)


def read_csv(file: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file as dictionaries; titles and cells are stripped. UserError if there are none."""
    rows = list(csv.DictReader(io.StringIO(read_text(file)), restkey=""))
    if not rows:
        raise UserError(f"{file}: has no rows, expected a line of titles and lines of values")
    return [{key.strip(): (value or "").strip() for key, value in row.items() if key} for row in rows]


def _width(text: str) -> int:
    """Return the width of a text on a terminal, where Chinese characters are two columns wide."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _one_line(text: str, limit: float = math.inf) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:20]}...{text[-17:]}"


class SummaryExports:
    """Convert the rows of the method `summary` to other forms; arguments are those of `summary`."""

    def to_df(self, *args: Any, **kwargs: Any) -> pandas.DataFrame:
        """Return a pandas data frame."""
        table = self._table(*args, **kwargs)
        return require("pandas", "pandas", "to_df").DataFrame(table.rows, columns=[c.title for c in table.columns])

    def to_csv(self, *args: Any, **kwargs: Any) -> str:
        """Return CSV with a line of titles."""
        return self._table(*args, **kwargs).csv()

    def to_html(self, *args: Any, **kwargs: Any) -> str:
        """Return an HTML table."""
        return self._table(*args, **kwargs).html()

    def to_json(self, *args: Any, **kwargs: Any) -> str:
        """Return JSON."""
        return json.dumps(self.summary(*args, **kwargs), indent=2, ensure_ascii=False)

    tojson = to_json

    def _table(self, *args: Any, **kwargs: Any) -> Table:
        rows = self.summary(*args, **kwargs)
        return Table([Column(title) for title in (rows[0] if rows else ())], [list(row.values()) for row in rows])
