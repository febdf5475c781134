"""The picture of a model as SVG."""

from __future__ import annotations

from html import escape

from ultralytics.inspect.drawing import Box, Drawing, Edge, Label, Point
from ultralytics.nn.summary import IMAGE, KINDS, TEXT, Inspection, LayerRow, shape_text

BAND_FILLS = ("#f7f8fa", "#ffffff")
EDGE_COLOUR = "#5b6470"
FONT = "DejaVu Sans, Verdana, Arial, sans-serif"


def svg_text(drawing: Drawing, inspection: Inspection) -> str:
    """An SVG file. Each layer has its details as a title, which browsers show under the pointer."""
    width, height = drawing.width, drawing.height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="{FONT}" fill="{TEXT}">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
    ]
    for n, band in enumerate(drawing.bands):
        fill = BAND_FILLS[n % 2]
        parts.append(f'<rect y="{band.y:g}" width="{width:.0f}" height="{band.height:g}" fill="{fill}"/>')
        parts.append(_label(band.label))
    parts += [_label(label) for label in drawing.headings]
    parts += [_edge(edge) for edge in drawing.edges]
    parts += [_box(box, inspection) for box in drawing.boxes]
    for kind, (x, y), label in drawing.legend:
        parts.append(_rect(x, y, 14, 14, kind, 3))
        parts.append(_label(label))
    parts.append("</svg>\n")
    return "\n".join(parts)


def details(row: LayerRow) -> list[tuple[str, str]]:
    """What a reader wants to know of a layer, as (name, value); empty values are left out."""
    pairs = [
        ("layer", f"{row.index} {row.name}" if row.name else str(row.index)),
        ("module", row.module),
        ("arguments", row.arguments),
        ("assumed", row.assumed),
        ("reads", ", ".join("image" if source == IMAGE else str(source) for source in row.sources)),
        ("inputs", ", ".join(map(shape_text, row.inputs))),
        ("outputs", ", ".join(map(shape_text, row.outputs))),
        ("parameters", f"{row.parameters:,}"),
        ("GFLOPs (torch)", f"{row.flops / 1e9:.3f}"),
        ("row", row.where),
    ]
    return [(name, value) for name, value in pairs if value]


def _label(label: Label) -> str:
    bold = ' font-weight="bold"' if label.bold else ""
    return (
        f'<text x="{label.x:g}" y="{label.y:g}" font-size="{label.size}" text-anchor="{label.anchor}"{bold}>'
        f"{escape(label.text)}</text>"
    )


def _rect(x: float, y: float, width: float, height: float, kind: str, radius: int) -> str:
    colours = KINDS[kind]
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" fill="{colours.fill}" '
        f'stroke="{colours.line}" stroke-width="1.3"/>'
    )


def _box(box: Box, inspection: Inspection) -> str:
    texts = "".join(map(_label, box.labels))
    shape = _rect(box.x, box.y, box.width, box.height, box.kind, 5)
    if box.position == IMAGE:
        return f'<g class="node" data-position="-1">{shape}{texts}</g>'
    title = "\n".join(f"{name}: {value}" for name, value in details(inspection.rows[box.position]))
    return (
        f'<g class="node" data-position="{box.position}" tabindex="0"><title>{escape(title)}</title>{shape}{texts}</g>'
    )


def _edge(edge: Edge) -> str:
    first, *rest = map(_point, edge.curve)
    corners = " ".join(map(_point, edge.arrow))
    return (
        f'<g class="edge" data-source="{edge.source}" data-target="{edge.target}">'
        f'<path d="M{first} C{" ".join(rest)}" fill="none" stroke="{EDGE_COLOUR}" stroke-width="1.4"/>'
        f'<polygon points="{corners}" fill="{EDGE_COLOUR}"/></g>'
    )


def _point(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"
