"""`yolo inspect model=my-model.yaml`: layer table and warnings on the terminal, CSV and a picture in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ultralytics.cfg.values import Range
from ultralytics.nn.summary import IMAGE, Inspection, LayerRow, inspect_model, layer_table, layers_csv, shape_text
from ultralytics.tools.common import load_network, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILL = {
    "backbone": "#d5dce6", "convolution": "#cfe6f7", "attention": "#f7d6e6", "fusion": "#cdeede", "sampling": "#fbe3bd",
    "other": "#f0f0f0", "head": "#f9d3c2",
}  # fmt: skip
EDGE = "#5b6470"
COLUMN, LINE = 2.5, 0.52  # inches of a column with the gap behind it, and of a line
WIDTH, HEIGHT = 0.72, 0.62  # of a box, as shares of column and line
LETTERS = 26  # of a heading in a box

Port = tuple[int, float]  # column and line where the edges of a map begin


def command(
    model: str,
    imgsz: Annotated[int, Range(32)] = 640,
    nc: Annotated[int | None, Range(1)] = None,
    modules: str | None = None,
    project: str | None = None,
    name: str | None = None,
) -> None:
    """Show what a model file builds, or weights contain, and write it to `project`/`name`.

    Args:
        model: a model YAML, or weights (.pt).
        imgsz: side of the image in pixels.
        nc: number of classes in place of the file's.
        modules: a folder with module files.
        project: folder of the results, `runs/inspect` by default.
        name: folder in it, the model's name by default; numbered when taken.

    Raises:
        UserError: the model cannot be read or built, or fails at this size.
    """
    from ultralytics.utils.checks import check_imgsz

    inspection = inspect_model(load_network(model, nc, modules, meta=True), check_imgsz(imgsz))
    LOGGER.info(layer_table(inspection))
    folder = tool_dir("inspect", project, name, Path(model).stem)
    write_results(inspection, folder, Path(model).stem)
    LOGGER.info(f"{folder}: layers.csv, graph.svg, graph.png written")


def write_results(inspection: Inspection, folder: Path, title: str) -> None:
    """Write layers.csv, graph.svg and graph.png to an existing folder."""
    from ultralytics.utils.plotting import save_figure

    write_text(folder / "layers.csv", layers_csv(inspection))
    figure = draw_graph(inspection, title)
    save_figure(figure, folder / "graph.png")
    save_figure(figure, folder / "graph.svg")


def draw_graph(inspection: Inspection, title: str) -> Figure:
    """Draw the layers from top to bottom: a column for the backbone, one for each stride of the neck, and the head.

    Each layer of the neck has a line to itself, and maps of the backbone leave between these lines. So edges, which run
    along lines and in the gaps between columns, cross no box.
    """
    from matplotlib.patches import Patch

    from ultralytics.utils.plotting import drawable, new_figure

    rows, info = inspection.rows, inspection.info
    strides, boxes, ports = _place(rows)
    columns, lines = boxes[-1].column + 1, max(box.last for box in boxes) + 2.5
    figure = new_figure(columns * COLUMN, lines * LINE + 0.8)
    axes = figure.subplots()
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(lines - 1.5, -1.5), xticks=[], yticks=[], frame_on=False)
    size = f"{info.parameters / 1e6:.3f} M parameters, {info.gflops:.2f} GFLOPs at {info.imgsz[0]}x{info.imgsz[1]}"
    axes.set_title(drawable(f"{title}: {size}"), fontsize=11)
    headings = {0: "backbone", **{c: f"neck, stride {s:g}" for s, c in strides.items()}, columns - 1: "head"}
    for column, heading in headings.items():
        axes.text(column, -1.25, heading, ha="center", va="center", fontsize=10, weight="bold")
    _draw_box(axes, _Box(0, -0.5, -0.5), FILL["other"], {-0.5: f"image {shape_text(inspection.image)}"})
    for row, box in zip(rows, boxes, strict=True):
        name = f"{row.index} {row.name}: " if row.name else f"{row.index} "
        heading = drawable(f"{name}{row.module}{'*' * bool(row.assumed)}")
        texts = {box.title: heading if len(heading) <= LETTERS else f"{heading[: LETTERS - 3]}..."}
        for number, shape, stride in zip(row.numbers, row.outputs, row.strides, strict=False):
            note = shape_text(shape) + ("" if stride is None else f"  /{stride:g}")
            several = len(row.numbers) > 1
            texts[ports[number][1] if several else box.title + 0.32] = f"{number}: {note}" if several else note
        _draw_box(axes, box, FILL[row.kind], texts)
    _draw_edges(axes, rows, boxes, ports)
    kinds = [kind for kind in FILL if kind in {row.kind for row in rows}]
    handles = [Patch(facecolor=FILL[kind], edgecolor=EDGE, label=kind) for kind in kinds]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(handles), frameon=False)
    return figure


@dataclass(frozen=True)
class _Box:
    """Column, first and last line of a layer; `title` is the line of its heading."""

    column: int
    first: float
    last: float
    title: float = 0.0


def _place(rows: Sequence[LayerRow]) -> tuple[dict[float, int], list[_Box], dict[int, Port]]:
    """Place the layers: the column of each stride, the box of each layer, and the port of each map by its number."""
    neck = [row for row in rows[:-1] if not row.in_backbone]
    strides = sorted({row.strides[0] for row in neck if row.strides[0] is not None})
    columns = {stride: column for column, stride in enumerate(strides, start=1)}
    boxes, ports = [], {IMAGE: (0, -0.5)}
    next_line = {True: 0.5, False: 0.0}  # of the backbone, of the neck
    for row in rows[:-1]:
        column = 0 if row.in_backbone else columns.get(row.strides[0], max(len(strides), 1))
        line, several = next_line[row.in_backbone], len(row.numbers) > 1
        last = line + len(row.numbers) * several
        # several maps leave on lines of their own, one map of the neck below the middle of its box
        ports |= {
            n: (column, last - row.index + n if several else line + 0.14 * (not row.in_backbone)) for n in row.numbers
        }
        boxes.append(_Box(column, line, last, line if several else line - 0.15))
        next_line[row.in_backbone] = last + 1
    ends = [ports[source][1] for source in rows[-1].sources]
    boxes.append(_Box(max(len(strides), bool(neck)) + 1, min(ends), max(ends), (min(ends) + max(ends)) / 2 - 0.15))
    return columns, boxes, ports


def _draw_box(axes: Axes, box: _Box, fill: str, texts: dict[float, str]) -> None:
    """Draw a box with texts by their lines; the first is its heading."""
    from matplotlib.patches import FancyBboxPatch

    corner = (box.column - WIDTH / 2, box.first - HEIGHT / 2)
    style = {"boxstyle": "round,pad=0,rounding_size=0.03", "facecolor": fill, "edgecolor": EDGE, "zorder": 2}
    axes.add_patch(FancyBboxPatch(corner, WIDTH, box.last - box.first + HEIGHT, mutation_aspect=COLUMN / LINE, **style))
    for n, (line, text) in enumerate(texts.items()):
        weight = "bold" if n == 0 and len(texts) > 1 else "normal"
        axes.text(box.column, line, text, ha="center", va="center", fontsize=8, weight=weight, zorder=3)


def _draw_edges(axes: Axes, rows: Sequence[LayerRow], boxes: Sequence[_Box], ports: dict[int, Port]) -> None:
    """Draw an arrow from each map to each layer that reads it: straight down, or through the gap beside the column."""
    tracks: dict[float, dict[int, None]] = {}  # maps that run down in each gap between columns, by its middle
    routes: list[tuple[int, float | None, float, _Box]] = []  # map, gap (None: straight down), line at the end, target
    for row, box in zip(rows, boxes, strict=True):
        entered = Counter()  # edges from the left and from the right
        for source in sorted(row.sources, key=lambda number: ports[number][1]):
            column, line = ports[source]
            between = [other for other in boxes if other.column == box.column and line < other.first < box.first]
            if column == box.column and line < box.first and not between:
                routes.append((source, None, box.first, box))
                continue
            gap = box.column + (0.5 if box.column <= column else -0.5)
            inside = box.first <= line <= box.last and gap < box.column  # a tall box is entered at the map's line
            entry = line if inside else box.first - 0.1 + 0.2 * entered[gap]
            entered[gap] += not inside
            routes.append((source, gap, entry, box))
            if not inside:
                tracks.setdefault(gap, {})[source] = None
    arrow = {"arrowstyle": "-|>", "color": EDGE, "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
    for source, gap, entry, box in routes:
        column, line = ports[source]
        if gap is None:
            points = [(column, line), (column, entry - HEIGHT / 2)]
        else:
            order = list(tracks.get(gap, ()))
            share = (order.index(source) + 1) / (len(order) + 1) - 0.5 if source in order else 0
            x, side = gap + share * (1 - WIDTH), 1 if box.column >= column else -1
            end = box.column + (WIDTH / 2 if gap > box.column else -WIDTH / 2)
            points = [(column + side * WIDTH / 2, line), (x, line), (x, entry), (end, entry)]
        axes.plot(*zip(*points[:-1], strict=True), color=EDGE, lw=1.1, zorder=1)
        axes.annotate("", points[-1], points[-2], arrowprops=arrow, zorder=1)
