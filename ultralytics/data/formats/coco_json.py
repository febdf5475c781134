"""COCO: one `annotations/instances_predictions.json` for all images, the folder and name that Datumaro expects.

Boxes are x, y, width, height in pixels, counted from 0 at the upper left corner of the image, as the section "Data
format" of https://cocodataset.org/#format-data says. Ids start at 1: evaluation with pycocotools takes an annotation
with id 0 for one that is not matched, and many readers keep category 0 for the background. Category `i + 1` is class
`i`. The score is kept as a key `score`, which readers that do not know it skip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ultralytics.data.formats.common import LabelImage, Spool, assemble, readable


class CocoJson:
    """Writes the file; images and annotations wait in files of their own until the end."""

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self.file = folder / "annotations" / "instances_predictions.json"
        self.file.parent.mkdir(exist_ok=True)
        self.categories = [{"id": index + 1, "name": readable(name)} for index, name in sorted(names.items())]
        self.images, self.annotations = Spool(folder), Spool(folder)
        self.image_id = self.annotation_id = 0

    def add(self, image: LabelImage) -> None:
        self.image_id += 1
        entry = {"id": self.image_id, "file_name": image.file, "width": image.width, "height": image.height}
        self.images.add(_json(entry), between=",\n")
        for box in image.boxes:
            self.annotation_id += 1
            sides = box.xywh(decimals=2)
            entry = {
                "id": self.annotation_id,
                "image_id": self.image_id,
                "category_id": box.cls + 1,
                "bbox": sides,
                "area": round(sides[2] * sides[3], 2),
                "segmentation": [],
                "iscrowd": 0,
                "score": round(box.score, 4),
            }
            self.annotations.add(_json(entry), between=",\n")

    def close(self) -> None:
        start = f'{{"info": {{}}, "licenses": [], "categories": {_json(self.categories)},\n"images": [\n'
        assemble(self.file, start, self.images, '\n],\n"annotations": [\n', self.annotations, "\n]}\n")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
