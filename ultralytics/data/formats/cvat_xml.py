"""CVAT: one `annotations.xml` for all images, "CVAT for images 1.1".

Corners are pixels with fractions, counted from 0 at the upper left corner: https://docs.cvat.ai/docs/manual/advanced/
xml_format/. An upload finds its frames by the images' names. CVAT takes attributes only when the task's labels declare
them, so the score stays away; boxes are marked as automatic.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from ultralytics.data.formats.common import LabelImage, Spool, assemble, readable


class CvatXml:
    """Writes `annotations.xml`; images wait in a file of their own until the end, which knows how many they are."""

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self.file = folder / "annotations.xml"
        self.names = [readable(name) for _, name in sorted(names.items())]
        self.images, self.count = Spool(folder), 0

    def add(self, image: LabelImage) -> None:
        sizes = {"width": str(image.width), "height": str(image.height)}
        element = ElementTree.Element("image", id=str(self.count), name=image.file, **sizes)
        for box in image.boxes:
            corners = {"xtl": box.left, "ytl": box.top, "xbr": box.right, "ybr": box.bottom}
            ElementTree.SubElement(
                element,
                "box",
                label=box.name,
                source="auto",
                occluded="0",
                **{key: f"{value:.2f}" for key, value in corners.items()},
                z_order="0",
            )
        self.images.add(_text(element))
        self.count += 1

    def close(self) -> None:
        meta = ElementTree.Element("meta")
        task = ElementTree.SubElement(meta, "task")
        for tag, text in {"name": "predictions", "size": self.count, "mode": "annotation"}.items():
            ElementTree.SubElement(task, tag).text = str(text)
        labels = ElementTree.SubElement(task, "labels")
        for name in self.names:
            label = ElementTree.SubElement(labels, "label")
            ElementTree.SubElement(label, "name").text = name
            ElementTree.SubElement(label, "type").text = "rectangle"
            ElementTree.SubElement(label, "attributes")
        start = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n' + _text(meta)
        assemble(self.file, start, self.images, "</annotations>\n")


def _text(element: ElementTree.Element) -> str:
    ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="unicode") + "\n"
