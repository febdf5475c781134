"""`yolo inspect model=my-model.yaml`: layer table and warnings on the terminal, CSV and a picture in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ultralytics.cfg.values import Range
from ultralytics.nn.registry import missing_names
from ultralytics.nn.summary import IMAGE, Inspection, LayerRow, inspect_model, layer_report, layers_csv, shape_text
from ultralytics.tools.common import load_network, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.files import write_text
from ultralytics.utils.fonts import drawable
from ultralytics.utils.plotting import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILL = {
    "backbone": "#d5dce6", "convolution": "#cfe6f7", "attention": "#f7d6e6", "fusion": "#cdeede", "sampling": "#fbe3bd",
    "other": "#f0f0f0", "head": "#f9d3c2",
}  # fmt: skip
EDGE = "#5b6470"
COLUMN, LINE = 2.6, 0.6  # inches of a column with the gap behind it, and of a line
LETTERS = 26  # of a heading in a box


def command(
    model: str, imgsz: Annotated[int, Range(32)] = 640, nc: Annotated[int | None, Range(1)] = None,
    modules: str | None = None, trust: bool = False, project: str | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Show what a model YAML builds, or weights (.pt) contain, and write it to `project`/`name`.

    The folder is `runs/inspect` and the model's name by default; it is numbered when taken.
    `trust` imports the module folders that the weights record; `modules` is a folder of yours.
    """
    inspection = inspect_model(load_network(model, nc, modules, meta=True, trust=trust), check_imgsz(imgsz))
    LOGGER.info(layer_report(inspection))
    for reason in missing_names():
        LOGGER.info(f"missing: {reason}")
    folder = tool_dir("inspect", project, name, Path(model).stem)
    write_text(folder / "layers.csv", layers_csv(inspection))
    save_figure(draw_graph(inspection, Path(model).stem), folder / "graph.png", also="svg")
    LOGGER.info(f"{folder}: layers.csv, graph.svg, graph.png written")


def draw_graph(inspection: Inspection, title: str) -> Figure:
    """Draw the layers from top to bottom: a column for the backbone, one for each stride of the neck, and the head."""
    from matplotlib.patches import Patch

    rows, info = inspection.rows, inspection.info
    headings, places = place_layers(rows)
    columns, lines = len(headings), max(line for _, line in places) + 1
    figure = new_figure(columns * COLUMN, lines * LINE + 1.5)
    axes = figure.subplots()
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(lines - 0.5, -2.5), xticks=[], yticks=[], frame_on=False)
    size = f"{info.parameters / 1e6:.3f} M parameters, {info.gflops:.2f} GFLOPs at {info.imgsz[0]}x{info.imgsz[1]}"
    axes.set_title(drawable(f"{title}: {size}"), fontsize=11)
    for column, heading in enumerate(headings):
        axes.text(column, -2.2, heading, ha="center", fontsize=10, weight="bold")

    style = {"ha": "center", "va": "center", "fontsize": 8, "zorder": 3}
    image = axes.text(0, -1.2, f"image {shape_text(inspection.image)}", bbox={"fc": FILL["other"], "ec": EDGE}, **style)
    boxes = {IMAGE: image}  # of each map
    lowest = {0: image}  # box of each column
    for row, (column, line) in zip(rows, places, strict=True):
        heading = drawable(" ".join(filter(None, (str(row.index), row.name, row.module + "*" * bool(row.assumed)))))
        shapes = zip(map(shape_text, row.outputs), row.strides, strict=True)
        maps = [f"{shape} /{stride:g}" if stride else shape for shape, stride in shapes]
        text = "\n".join([heading if len(heading) <= LETTERS else f"{heading[: LETTERS - 3]}...", *maps])
        box = axes.text(column, line, text, bbox={"fc": FILL[row.kind], "ec": EDGE, "boxstyle": "round"}, **style)
        for source in row.sources:
            start = boxes[source].get_position()
            points = [start, (column, line)]
            if boxes[source] is not lowest.get(column):  # through the gap beside the column, on a track of its own
                before = start[0] + (0.5 if column >= start[0] else -0.5)
                x = (column - 0.5 if row is rows[-1] else before) + 0.04 * (source % 7 - 3)
                leave, enter = start[1] + 0.12, line - 0.12  # so that the edges of a layer do not overlap
                points = [(start[0], leave), (x, leave), (x, enter), (column, enter)]
            axes.plot(*zip(*points[:-1], strict=True), color=EDGE, lw=1, zorder=1)
            arrow = {"arrowstyle": "-|>", "color": EDGE, "shrinkA": 0, "shrinkB": 0, "patchB": box.get_bbox_patch()}
            axes.annotate("", points[-1], points[-2], arrowprops=arrow, zorder=1)
        boxes |= dict.fromkeys(row.numbers, box)
        lowest[column] = box
    kinds = [kind for kind in FILL if kind in {row.kind for row in rows}]
    handles = [Patch(facecolor=FILL[kind], edgecolor=EDGE, label=kind) for kind in kinds]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(handles), frameon=False)
    return figure


def place_layers(rows: Sequence[LayerRow]) -> tuple[list[str], list[tuple[int, float]]]:
    """Return the headings of the columns, and the (column, line) of each layer. Each layer of the neck has its line."""
    neck = [row for row in rows[:-1] if not row.in_backbone]
    strides = sorted({row.strides[0] for row in neck if row.strides[0] is not None})
    next_line = {True: 0.0, False: 0.0}  # of the backbone, of the neck
    places, line_of = [], {}
    for row in rows[:-1]:
        column = strides.index(row.strides[0]) + 1 if not row.in_backbone and row.strides[0] in strides else 0
        height = max(1.0, len(row.numbers) / 2)
        line = next_line[row.in_backbone] + (height - 1) / 2
        places.append((column, line))
        next_line[row.in_backbone] += height
        line_of |= dict.fromkeys(row.numbers, line)
    lines = [line_of[source] for source in rows[-1].sources]
    places.append((len(strides) + 1, sum(lines) / len(lines)))
    return ["backbone", *(f"neck, stride {stride:g}" for stride in strides), "head"], places
