"""SVG, page and PNG of the same drawing."""

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.inspect.models import inspected, of_rows, row
from ultralytics.inspect.drawing import draw
from ultralytics.inspect.page import page_text
from ultralytics.inspect.png import SCALE, save_png
from ultralytics.inspect.svg import svg_text
from ultralytics.nn.summary import KINDS, TEXT

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '</script><b class="x">&'


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_colours_can_be_read(kind):
    assert contrast(TEXT, KINDS[kind].fill) > 7
    assert contrast(KINDS[kind].line, KINDS[kind].fill) > 3 and contrast(KINDS[kind].line, "#ffffff") > 3


def test_the_svg_has_every_layer_and_edge():
    result = inspected("rtdetr-efficientvit-m0.yaml")
    drawing = draw(result, "m0")
    root = ElementTree.fromstring(svg_text(drawing, result))
    groups = root.findall(f"{SVG}g")
    assert sum(g.get("class") == "node" for g in groups) == len(result.rows) + 1
    assert sum(g.get("class") == "edge" for g in groups) == len(drawing.edges)
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert "module: AIFI" in titles[2] and "outputs: 256x20x20" in titles[2] and "parameters: 789,760" in titles[2]


def test_names_are_escaped():
    result = of_rows(row(0, (-1,), name=NASTY, arguments=f"text={NASTY!r}"), row(1, (0,)))
    svg = svg_text(draw(result, NASTY), result)
    root = ElementTree.fromstring(svg)
    assert any(NASTY in (title.text or "") for title in root.iter(f"{SVG}title"))

    class Scripts(HTMLParser):
        def __init__(self):
            super().__init__()
            self.tags, self.data, self.inside = [], {}, None

        def handle_starttag(self, tag, attributes):
            self.tags.append((tag, dict(attributes)))
            self.inside = dict(attributes).get("id") if tag == "script" else None

        def handle_data(self, data):
            if self.inside:
                self.data[self.inside] = self.data.get(self.inside, "") + data

        def handle_endtag(self, tag):
            self.inside = None

    parser = Scripts()
    page = page_text(svg, result, NASTY)
    parser.feed(page)
    assert ["layer", f"0 {NASTY}"] in json.loads(parser.data["details"])[0]
    assert not any("src" in a or "href" in a for _, a in parser.tags), "the page needs nothing from elsewhere"
    assert page.count("http") == svg.count("http") == 1  # the name of the SVG namespace
    assert {"class": "x"} not in [a for tag, a in parser.tags if tag == "b"]


def test_the_png_shows_the_boxes_where_the_svg_has_them(tmp_path):
    result = inspected("rtdetr-efficientvit-m0.yaml")
    drawing = draw(result, "m0")
    save_png(drawing, tmp_path / "graph.png")
    assert [file.name for file in tmp_path.iterdir()] == ["graph.png"]
    image = np.asarray(Image.open(tmp_path / "graph.png").convert("RGB"))
    assert abs(image.shape[1] - SCALE * drawing.width) <= 2 and abs(image.shape[0] - SCALE * drawing.height) <= 2
    for box in drawing.boxes:
        x, y = round(SCALE * (box.x + 6)), round(SCALE * (box.y + box.height - 6))  # a corner without letters
        fill = KINDS[box.kind].fill
        assert image[y, x].tolist() == [int(fill[i : i + 2], 16) for i in (1, 3, 5)], box.position


def test_names_in_other_scripts(tmp_path):
    drawing = draw(of_rows(row(0, (-1,), name="主干"), row(1, (0,), name="$x$")), "模型")
    save_png(drawing, tmp_path / "graph.png")
    assert Image.open(tmp_path / "graph.png").size[0] > 100
