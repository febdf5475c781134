"""The picture of a model in pixels: boxes, edges and lanes, which the SVG and the PNG both draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ultralytics.inspect.placement import Cell, Placement, place
from ultralytics.nn.summary import IMAGE, KINDS, Inspection, LayerRow, shape_text, stride_text
from ultralytics.utils.plotting import default_font, pil_font

Point = tuple[float, float]

BOX_HEIGHT, TRACK_HEIGHT = 36, 50  # pixels
COLUMN_GAP, LANE_PAD = 30, 14
LEFT, TOP, BOTTOM = 92, 104, 52  # margins: stride labels, headings and the image, legend
NARROWEST, WIDEST = 72, 168  # of a box
TITLE_SIZE, NOTE_SIZE, HEADING_SIZE = 12, 10, 13  # of the letters
ARROW = 7


@dataclass(frozen=True)
class Label:
    """A text. `y` is its baseline; `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    size: int
    anchor: str = "middle"
    bold: bool = False


@dataclass(frozen=True)
class Box:
    """A layer, or the image with position -1."""

    position: int
    x: float
    y: float
    width: float
    height: float
    kind: str
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Edge:
    """From one layer to another (positions, -1 for the image).

    Attributes:
        curve: first point, then for each cubic piece two control points and an end.
        arrow: the three corners of its head.
    """

    source: int
    target: int
    curve: tuple[Point, ...]
    arrow: tuple[Point, Point, Point]


@dataclass(frozen=True)
class Band:
    """A lane: everything at one stride."""

    y: float
    height: float
    label: Label


@dataclass(frozen=True)
class Drawing:
    """Everything in pixels, origin in the upper left. `legend` has a kind, the corner of its square, and its name."""

    width: float
    height: float
    bands: tuple[Band, ...]
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    headings: tuple[Label, ...]
    legend: tuple[tuple[str, Point, Label], ...]


def draw(inspection: Inspection, title: str) -> Drawing:
    """Lay the model out, under its title and size."""
    info = inspection.info
    size = f"{info.parameters / 1e6:.3f} M parameters, {info.gflops:.2f} GFLOPs at {info.imgsz[0]}x{info.imgsz[1]}"
    title = f"{title}: {size}"
    return _Canvas(inspection.rows, place(inspection.rows)).drawing(inspection, title)


class _Canvas:
    """Turns places into pixels."""

    def __init__(self, rows: Sequence[LayerRow], placement: Placement) -> None:
        self.rows, self.placement = rows, placement
        self.position_of = {number: position for position, row in enumerate(rows) for number in row.numbers}
        widths = [float(NARROWEST)] * placement.columns
        for position, cell in placement.cells.items():
            widths[cell.column] = max(widths[cell.column], self._width(position))
        self.widths = widths
        self.lefts = [LEFT + sum(widths[:c]) + c * COLUMN_GAP for c in range(len(widths))]
        self.heights = [placement.tracks(lane) * TRACK_HEIGHT + LANE_PAD for lane in range(len(placement.lanes))]
        self.tops = [TOP + sum(self.heights[:lane]) for lane in range(len(self.heights))]

    def drawing(self, inspection: Inspection, title: str) -> Drawing:
        width = self.lefts[-1] + self.widths[-1] + 24
        height = self.tops[-1] + self.heights[-1]
        image = self._image(inspection)
        boxes = [image, *(self._box(position) for position in range(len(self.rows)))]
        bands = [
            Band(top, high, Label(14, top + high / 2 + 4, f"stride {stride_text(stride)}", NOTE_SIZE + 1, "start"))
            for top, high, stride in zip(self.tops, self.heights, self.placement.lanes, strict=True)
        ]
        edges = [edge for position in range(len(self.rows)) for edge in self._edges(position, boxes)]
        legend = self._legend(height + 30)
        width = max(width, legend[-1][2].x + 90, LEFT + _text_width(title, HEADING_SIZE) + 24)
        headings = (Label(14, 24, title, HEADING_SIZE, "start", bold=True), *self._sections())
        return Drawing(width, height + BOTTOM, tuple(bands), tuple(boxes), tuple(edges), headings, tuple(legend))

    def _width(self, position: int) -> float:
        row = self.rows[position]
        texts = [_title(row), *(_note(row, n) for n in range(len(row.outputs)))]
        return min(max(NARROWEST, *(_text_width(text, TITLE_SIZE) + 14 for text in texts)), WIDEST)

    def _y(self, cell: Cell) -> float:
        """Middle of a track."""
        return self.tops[cell.lane] + LANE_PAD / 2 + (cell.track + 0.5) * TRACK_HEIGHT

    def _image(self, inspection: Inspection) -> Box:
        width = max(self.widths[0], 96)
        x = self.lefts[0]
        label = Label(x + width / 2, TOP - 22, f"image {shape_text(inspection.image)}", NOTE_SIZE)
        return Box(IMAGE, x, TOP - 38, width, 24, "other", (label,))

    def _box(self, position: int) -> Box:
        row, cell = self.rows[position], self.placement.cells[position]
        x, width = self.lefts[cell.column], self.widths[cell.column]
        middle, span = x + width / 2, self.placement.tall.get(position)
        if span is None:
            y = self._y(cell) - BOX_HEIGHT / 2
            labels = [_fitted(middle, y + 15, _title(row), TITLE_SIZE, width, bold=True)]
            labels.append(_fitted(middle, y + 29, _note(row, 0), NOTE_SIZE, width))
            return Box(position, x, y, width, BOX_HEIGHT, row.kind, tuple(labels))
        top, bottom = self.tops[span[0]] + 4, self.tops[span[1]] + self.heights[span[1]] - 4
        labels = [_fitted(middle, top + 18, _title(row), TITLE_SIZE, width, bold=True)]
        if len(row.outputs) == 1:
            labels.append(_fitted(middle, top + 34, _note(row, 0), NOTE_SIZE, width))
        else:
            for n, number in enumerate(row.numbers):
                y = self._y(self.placement.ports[number]) + 4
                labels.append(Label(x + width - 8, max(y, top + 36), _note(row, n), NOTE_SIZE, "end"))
        return Box(position, x, top, width, bottom - top, row.kind, tuple(labels))

    def _edges(self, position: int, boxes: Sequence[Box]) -> list[Edge]:
        """The edges that go into a layer; the box of a position is one further in `boxes`, behind the image."""
        row, target = self.rows[position], boxes[position + 1]
        edges = []
        entries = _spread(target, [self._approach(source, position) for source in row.sources])
        for source, entry in zip(row.sources, entries, strict=True):
            source_position = IMAGE if source == IMAGE else self.position_of[source]
            edges.append(self._edge(source, boxes[source_position + 1], target, entry))
        return edges

    def _approach(self, source: int, position: int) -> float:
        """Height at which an edge arrives before its last bend."""
        if source == IMAGE:
            return 0.0
        column = self.placement.cells[position].column
        return self._y(self.placement.passing.get(source, {}).get(column - 1, self.placement.ports[source]))

    def _edge(self, source: int, begin: Box, end: Box, entry: float) -> Edge:
        if source == IMAGE or abs(begin.x - end.x) < 1:
            return self._vertical(begin, end)
        start_y = self._y(self.placement.ports[source])
        points: list[Point] = [(begin.x + begin.width, start_y)]
        column = self.placement.cells[end.position].column
        for over, cell in sorted(self.placement.passing.get(source, {}).items()):
            if over < column:
                points += [(self.lefts[over], self._y(cell)), (self.lefts[over] + self.widths[over], self._y(cell))]
        points.append((end.x - ARROW, entry))
        curve = [points[0]]
        for (x0, y0), (x1, y1) in pairwise(points):
            middle = (x0 + x1) / 2
            curve += [(middle, y0), (middle, y1), (x1, y1)]
        return Edge(begin.position, end.position, tuple(curve), _pointing_right(end.x, entry))

    def _vertical(self, begin: Box, end: Box) -> Edge:
        """Down from one box of the backbone to the next; in a bow on the left past boxes between them."""
        x, y0, y1 = end.x + min(begin.width, end.width) / 2, begin.y + begin.height, end.y - ARROW
        column = [self._y(c) for p, c in self.placement.cells.items() if abs(self.lefts[c.column] - end.x) < 1]
        if any(y0 < y < y1 for y in column):
            y0, y1 = begin.y + begin.height / 2, end.y + end.height / 2
            curve = ((end.x, y0), (end.x - COLUMN_GAP, y0), (end.x - COLUMN_GAP, y1), (end.x - ARROW, y1))
            return Edge(begin.position, end.position, curve, _pointing_right(end.x, y1))
        arrow = ((x, end.y), (x - ARROW / 2, y1), (x + ARROW / 2, y1))
        return Edge(begin.position, end.position, ((x, y0), (x, y0), (x, y1), (x, y1)), arrow)

    def _sections(self) -> list[Label]:
        """Headings over the columns of backbone, neck and head."""
        split, last = self.placement.backbone_columns, self.placement.columns - 1
        parts = [("backbone", 0, split - 1), ("neck", split, last - 1), ("head", last, last)]
        labels = []
        for name, first, end in parts:
            if first <= end:
                middle = (self.lefts[first] + self.lefts[end] + self.widths[end]) / 2
                labels.append(Label(middle, TOP - 50, name, HEADING_SIZE, bold=True))
        return labels

    def _legend(self, y: float) -> list[tuple[str, Point, Label]]:
        present = {row.kind for row in self.rows}
        entries, x = [], float(LEFT)
        for kind in KINDS:
            if kind in present:
                entries.append((kind, (x, y - 11), Label(x + 20, y, kind, NOTE_SIZE + 1, "start")))
                x += 44 + _text_width(kind, NOTE_SIZE + 1)
        return entries


def _title(row: LayerRow) -> str:
    name = f"{row.name}: " if row.name else ""
    return f"{row.index} {name}{row.module}" + "*" * bool(row.assumed)


def _note(row: LayerRow, n: int) -> str:
    """Size of an output, for a layer with several its number first."""
    size = shape_text(row.outputs[n])
    return f"{row.numbers[n]}: {size}" if len(row.numbers) > 1 else size


def _text_width(text: str, size: int) -> float:
    """Pixels, in bold letters; browsers may take another font, of which none common is wider."""
    return 1.1 * pil_font(default_font(), size).getlength(text)


def _fitted(x: float, y: float, text: str, size: int, width: float, bold: bool = False) -> Label:
    """A label cut off where it would leave its box."""
    shown = text
    while _text_width(shown, size) > width - 6 and len(shown) > 4:
        shown = shown[: -2 if shown == text else -4] + "..."
    return Label(x, y, shown, size, "middle", bold)


def _spread(target: Box, wanted: Sequence[float]) -> list[float]:
    """Heights at which edges enter a box: where they come from, inside the box and apart from each other."""
    if len(wanted) == 1 or target.height <= BOX_HEIGHT:
        order = sorted(range(len(wanted)), key=lambda i: wanted[i])
        step = target.height / (len(wanted) + 1)
        return [target.y + step * (order.index(i) + 1) for i in range(len(wanted))]
    return [min(max(y, target.y + 10), target.y + target.height - 10) for y in wanted]


def _pointing_right(x: float, y: float) -> tuple[Point, Point, Point]:
    return (x, y), (x - ARROW, y - ARROW / 2), (x - ARROW, y + ARROW / 2)
