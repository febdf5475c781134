"""The layers of an inspected model as lines for the terminal and as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from ultralytics.inspect.measure import IMAGE, Inspection, LayerRow, Shape

ARGUMENTS_WIDTH = 40  # characters on the terminal; layers.csv has the whole

CSV_COLUMNS = (
    *("layer", "from", "sources", "name", "module", "arguments", "kind", "section", "inputs", "outputs", "strides"),
    *("parameters", "parameters_percent", "flops", "flops_percent", "assumed", "where"),
)


@dataclass(frozen=True)
class _Column:
    title: str
    cells: list[str]
    left: bool = False

    @property
    def width(self) -> int:
        return max(map(len, [self.title, *self.cells]))

    def line(self, text: str) -> str:
        return text.ljust(self.width) if self.left else text.rjust(self.width)


def shape_text(shape: Shape) -> str:
    """`256x80x80`, channels first."""
    return "x".join(map(str, shape))


def stride_text(stride: float | None) -> str:
    """`8`, or empty for an output that is no map."""
    return "" if stride is None else f"{stride:g}"


def layer_table(inspection: Inspection) -> str:
    """Layer table, the sums, what was assumed, and the warnings.

    GFLOPs of a layer are by torch's counter, which sees attention; thop has no rule for it, so its number stands in the
    last line only. Rows of several maps go on below each other. A star marks an assumed row.
    """
    rows, info = inspection.rows, inspection.info
    lines = _lines(rows, info.parameters, sum(row.flops for row in rows))
    lines.append(f"{len(rows)} rows, {info}")
    assumed = [row for row in rows if row.assumed]
    if assumed:
        lines.append("* the module did not register itself, so its row was read on assumptions:")
        lines += [f"  {row.where}: layer {row.index} {row.module}: {row.assumed}" for row in assumed]
    lines += [f"warning: {warning}" for warning in inspection.warnings]
    return "\n".join(lines)


def layers_csv(inspection: Inspection) -> str:
    """One line a layer with everything that `LayerRow` has; several maps are separated by semicolons."""
    rows, info = inspection.rows, inspection.info
    total = sum(row.flops for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        writer.writerow([
            row.index, row.written, ";".join("image" if s == IMAGE else str(s) for s in row.sources), row.name or "",
            row.module, row.arguments, row.kind, "backbone" if row.in_backbone else "head",
            ";".join(map(shape_text, row.inputs)), ";".join(map(shape_text, row.outputs)),
            ";".join(map(stride_text, row.strides)), row.parameters, _percent(row.parameters, info.parameters),
            row.flops, _percent(row.flops, total), row.assumed, row.where,
        ])  # fmt: skip
    return text.getvalue()


def _lines(rows: Sequence[LayerRow], parameters: int, flops: int) -> list[str]:
    """Header, rows and sums in columns of equal width."""
    first = [position for row in rows for position in [True, *[False] * (len(row.outputs) - 1)]]

    def column(title: str, texts: Sequence[str], total: str = "", left: bool = False) -> _Column:
        once = iter(texts)
        return _Column(title, [*(next(once) if is_first else "" for is_first in first), total], left)

    columns = [
        column("", [str(row.index) for row in rows]),
        column("from", [row.written for row in rows]),
        column("name", [row.name or "" for row in rows], left=True),
        column("module", [row.module + "*" * bool(row.assumed) for row in rows], left=True),
        column("arguments", [_shortened(row.arguments) for row in rows], left=True),
        _Column("output", [*(shape_text(shape) for row in rows for shape in row.outputs), ""]),
        _Column("stride", [*(stride_text(stride) for row in rows for stride in row.strides), ""]),
        column("parameters", [f"{row.parameters:,}" for row in rows], f"{parameters:,}"),
        column("%", [_percent(row.parameters, parameters) for row in rows]),
        column("GFLOPs (torch)", [f"{row.flops / 1e9:.3f}" for row in rows], f"{flops / 1e9:.3f}"),
        column("%", [_percent(row.flops, flops) for row in rows]),
    ]
    columns = [c for c in columns if c.title in ("", "%") or any(c.cells)]  # most models name no row
    body = ["  ".join(c.line(c.cells[i]) for c in columns).rstrip() for i in range(len(first) + 1)]
    return ["  ".join(c.line(c.title) for c in columns).rstrip(), *body]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else ""


def _shortened(text: str) -> str:
    return text if len(text) <= ARGUMENTS_WIDTH else text[: ARGUMENTS_WIDTH - 3] + "..."
