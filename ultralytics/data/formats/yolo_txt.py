"""YOLO text: `labels/NAME.txt` with a row `class cx cy w h` for each box, and `classes.txt` with a name a line.

Centre and size are in parts of the image's width and height, see "Ultralytics YOLO format" in
https://docs.ultralytics.com/datasets/detect/. There is no score: a sixth number is not part of a label. `classes.txt`
is what LabelImg and `label-studio-converter import yolo` look for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ultralytics.data.formats.common import LabelImage, readable
from ultralytics.utils.files import write_text


class YoloTxt:
    """Writes a label file as each image comes."""

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self.folder = folder / "labels"
        lines = [" ".join(readable(name).split()) for _, name in sorted(names.items())]
        write_text(folder / "classes.txt", "".join(f"{line}\n" for line in lines))

    def add(self, image: LabelImage) -> None:
        rows = []
        for box in image.boxes:
            left, top, width, height = box.xywh(decimals=6, scale=(1 / image.width, 1 / image.height))
            rows.append(f"{box.cls} {left + width / 2:.7f} {top + height / 2:.7f} {width:.6f} {height:.6f}\n")
        write_text(self.folder / f"{image.stem}.txt", "".join(rows))

    def close(self) -> None:
        """Every file is complete already."""
