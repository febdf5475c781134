"""The picture of a model as PNG, by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.inspect.drawing import Drawing, Label
from ultralytics.inspect.svg import BAND_FILLS, EDGE_COLOUR
from ultralytics.nn.summary import KINDS, TEXT
from ultralytics.utils.files import atomic_write
from ultralytics.utils.plotting import default_font, drawable, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 72  # of the drawing: one of its pixels is one point
SCALE = 2  # pixels of the file for one of the drawing


def save_png(drawing: Drawing, path: Path) -> None:
    """Write the drawing, twice as large as the SVG so that it stays sharp in print."""
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.path import Path as Curve

    figure = new_figure(drawing.width / DPI, drawing.height / DPI)
    figure.set_layout_engine("none")  # everything has its place already
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.set_axis_off()
    for n, band in enumerate(drawing.bands):
        axes.axhspan(band.y, band.y + band.height, color=BAND_FILLS[n % 2], linewidth=0)
    curves = [Curve(e.curve, [Curve.MOVETO, *[Curve.CURVE4] * (len(e.curve) - 1)]) for e in drawing.edges]
    axes.add_collection(
        PathCollection(curves, facecolors="none", edgecolors=EDGE_COLOUR, linewidths=1.4), autolim=False
    )
    arrows = [edge.arrow for edge in drawing.edges]
    axes.add_collection(PolyCollection(arrows, facecolors=EDGE_COLOUR, linewidths=0), autolim=False)
    for box in drawing.boxes:
        _rectangle(axes, box.x, box.y, box.width, box.height, box.kind, 5)
    for kind, (x, y), _ in drawing.legend:
        _rectangle(axes, x, y, 14, 14, kind, 3)
    labels = [label for box in drawing.boxes for label in box.labels]
    labels += [*drawing.headings, *(band.label for band in drawing.bands), *(entry[2] for entry in drawing.legend)]
    for label in labels:
        _text(axes, label)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=DPI * SCALE, pil_kwargs={"compress_level": 2})


def _rectangle(axes: Axes, x: float, y: float, width: float, height: float, kind: str, radius: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    colours = KINDS[kind]
    style = f"round,pad=0,rounding_size={radius}"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colours.fill, edgecolor=colours.line, lw=1.3)
    )


def _text(axes: Axes, label: Label) -> None:
    """A label in a font that has its characters, taken literally."""
    from matplotlib.font_manager import FontProperties

    text, font = drawable(label.text)
    if label.bold and font == default_font():
        font = font.with_name("DejaVuSans-Bold.ttf")
    align = {"start": "left", "middle": "center", "end": "right"}[label.anchor]
    properties = FontProperties(fname=str(font), size=label.size)
    axes.text(
        label.x, label.y, text, fontproperties=properties, color=TEXT, ha=align, va="baseline", parse_math=False
    )  # fmt: skip
