"""Label Studio: `tasks.json` with a task and its prediction for each image, and `label_config.xml` for the project.

Predictions are shown as boxes to correct (https://labelstud.io/guide/predictions). x, y, width and height are in per
cent of the image, from its upper left corner. A task names its image as local storage serves it,
`/data/local-files/?d=street.jpg` (https://labelstud.io/guide/storage#Local-storage), relative to the document root.
`from_name` and `to_name` are those of `label_config.xml`, without which Label Studio shows nothing.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from ultralytics.data.formats.common import LabelBox, LabelImage, Spool, assemble, readable
from ultralytics.utils.files import write_text

LABEL, IMAGE = "label", "image"  # names of the two tags in the project's configuration
LOCAL_FILES = "/data/local-files/?d="


class LabelStudio:
    """Writes the configuration at once and the tasks at the end."""

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self.file = folder / "tasks.json"
        self.tasks, self.count = Spool(folder), 0
        view = ElementTree.Element("View")
        ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}")
        labels = ElementTree.SubElement(view, "RectangleLabels", name=LABEL, toName=IMAGE)
        for _, name in sorted(names.items()):
            ElementTree.SubElement(labels, "Label", value=readable(name))
        ElementTree.indent(view)
        write_text(folder / "label_config.xml", ElementTree.tostring(view, encoding="unicode") + "\n")

    def add(self, image: LabelImage) -> None:
        self.count += 1
        result = [_rectangle(box, image, f"box{number}") for number, box in enumerate(image.boxes, 1)]
        prediction = {"model_version": "ultralytics", "result": result}
        if image.boxes:
            prediction["score"] = round(sum(box.score for box in image.boxes) / len(image.boxes), 4)
        task = {"id": self.count, "data": {IMAGE: LOCAL_FILES + quote(image.file)}, "predictions": [prediction]}
        self.tasks.add(json.dumps(task, ensure_ascii=False), between=",\n")

    def close(self) -> None:
        assemble(self.file, "[\n", self.tasks, "\n]\n")


def _rectangle(box: LabelBox, image: LabelImage, identity: str) -> dict[str, object]:
    percent = box.xywh(decimals=4, scale=(100 / image.width, 100 / image.height))
    place = dict(zip(("x", "y", "width", "height"), percent, strict=True))
    return {
        "id": identity,
        "type": "rectanglelabels",
        "from_name": LABEL,
        "to_name": IMAGE,
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "value": {**place, "rotation": 0, "rectanglelabels": [box.name]},
        "score": round(box.score, 4),
    }
