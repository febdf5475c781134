"""Pascal VOC: `Annotations/NAME.xml` for each image, a list of them, and the classes.

Corners are whole pixels that belong to the object, counted from 1 at the upper left corner: `bndbox` of the VOC2012
development kit (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html). A box with edges 0 and 10 has
xmin 1 and xmax 10. Edges are rounded to the nearest pixel, and a box keeps at least one. VOC has no place for a score.
`ImageSets/Main/predictions.txt` has a NAME a line; `labelmap.txt` names the classes for CVAT and Datumaro, which take
them for VOC's own twenty otherwise (https://docs.cvat.ai/docs/manual/advanced/formats/format-voc/).
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from ultralytics.data.formats.common import LabelBox, LabelImage, Spool, assemble, readable
from ultralytics.utils.files import write_text


class VocXml:
    """Writes an annotation as each image comes, and the list of them at the end."""

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self.folder, self.listed = folder, Spool(folder)
        rows = [f"{readable(name)}:::\n" for _, name in sorted(names.items())]
        write_text(folder / "labelmap.txt", "".join(["# label:color_rgb:parts:actions\n", *rows]))

    def add(self, image: LabelImage) -> None:
        root = ElementTree.Element("annotation")
        _children(root, folder="JPEGImages", filename=image.file)
        _children(ElementTree.SubElement(root, "size"), width=image.width, height=image.height, depth=3)
        _children(root, segmented=0)
        for box in image.boxes:
            item = ElementTree.SubElement(root, "object")
            _children(item, name=box.name, pose="Unspecified", truncated=0, difficult=0)
            left, top, right, bottom = _pixels(box, image)
            _children(ElementTree.SubElement(item, "bndbox"), xmin=left, ymin=top, xmax=right, ymax=bottom)
        ElementTree.indent(root)
        file = self.folder / "Annotations" / f"{image.stem}.xml"
        write_text(file, ElementTree.tostring(root, encoding="unicode") + "\n")
        self.listed.add(f'"{image.stem}"\n' if " " in image.stem else f"{image.stem}\n")  # quoted as Datumaro does

    def close(self) -> None:
        file = self.folder / "ImageSets" / "Main" / "predictions.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        assemble(file, self.listed)


def _pixels(box: LabelBox, image: LabelImage) -> tuple[int, int, int, int]:
    """First and last pixel of the box in each direction, counted from 1: xmin, ymin, xmax, ymax."""
    left, top = min(round(box.left), image.width - 1), min(round(box.top), image.height - 1)
    return left + 1, top + 1, max(round(box.right), left + 1), max(round(box.bottom), top + 1)


def _children(parent: ElementTree.Element, **texts: object) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)
