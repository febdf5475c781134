"""`yolo xml2txt xml=Annotations save=labels`: convert Pascal VOC annotations to YOLO text files."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ultralytics.data.converter import read_voc_xml
from ultralytics.tools.common import check_empty, log_problems, read_classes
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import write_text

CLASSES = "classes.txt"


def command(xml: str, save: str, classes: str | None = None) -> None:
    """Write a text file of `class cx cy w h` for each annotation. Objects marked difficult are left out.

    A file that cannot be read is reported, and the others are converted.

    Args:
        xml: a folder of .xml files, with subfolders.
        save: the folder to write to; it must be empty or not exist.
        classes: text file with one class name per line, or cat,dog, in the order of the class indices; by default all
            names that occur, sorted. They are written to `save`/classes.txt.

    Raises:
        UserError: there are no annotations, `save` has files, or no file could be read.
    """
    root, target = Path(xml), check_empty(save)
    files = sorted(root.rglob("*.xml")) if root.is_dir() else []
    if not files:
        raise DataError(f"xml={xml!r}: no folder with .xml files; expected Pascal VOC annotations")
    names = list(read_classes(classes).values()) if classes else find_names(files)
    written, boxes, failed = 0, 0, []
    for file in files:
        try:
            rows = yolo_rows(file, names)
        except DataError as error:
            failed.append(str(error))
            continue
        write_text(target / file.relative_to(root).with_suffix(".txt"), "".join(f"{row}\n" for row in rows))
        written, boxes = written + 1, boxes + len(rows)
    log_problems(failed)
    if not written:
        raise DataError(f"xml={xml!r}: none of {len(files)} files could be converted; the first: {failed[0]}")
    write_text(target / CLASSES, "".join(f"{name}\n" for name in names))
    LOGGER.info(
        f"{target}: {written} label files with {boxes} boxes, {len(failed)} annotations not converted; "
        f"{len(names)} classes: {', '.join(names)} ({CLASSES})"
    )


def find_names(files: list[Path]) -> list[str]:
    """Return the class names in annotations, sorted. Files that are no XML are skipped: `yolo_rows` reports them."""
    names: set[str] = set()
    for file in files:
        try:
            tree = ElementTree.parse(file)
        except (ElementTree.ParseError, OSError):
            continue
        names.update(name for item in tree.iter("object") if (name := (item.findtext("name") or "").strip()))
    return sorted(names)


def yolo_rows(file: Path, names: list[str]) -> list[str]:
    """Return the lines `class cx cy w h` of an annotation, with boxes clipped to the image.

    Raises:
        DataError: it is no Pascal VOC annotation, has another class, no image size, or a box without area.
    """
    (height, width), boxes = read_voc_xml(file, names)
    if height < 1 or width < 1:
        raise DataError(f"{file}: the image's size is {width} x {height}; expected <size> with width and height")
    rows = []
    for cls, x1, y1, x2, y2 in boxes:
        left, top, right, bottom = max(x1, 0) / width, max(y1, 0) / height, min(x2 / width, 1), min(y2 / height, 1)
        if right <= left or bottom <= top:
            raise DataError(
                f"{file}: the box {x1 + 1:g}, {y1 + 1:g}, {x2:g}, {y2:g} of {names[cls]!r} has no area in an image of "
                f"{width} x {height}"
            )
        numbers = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        rows.append(f"{cls} {' '.join(f'{value:.6f}' for value in numbers)}")
    return rows
