"""`yolo xml2txt xml=Annotations save=labels`: Pascal VOC annotations to YOLO text."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import write_text

TOLD = 10  # files that are told one by one
CLASSES = "classes.txt"


def command(xml: str, save: str, classes: str | None = None) -> None:
    """Write a text file of `class cx cy w h` for each annotation. Objects marked difficult are left out.

    Args:
        xml: a folder of .xml files; folders below it are kept.
        save: the folder to write to; it must be empty or not be there.
        classes: a text file with a class name a line, or the names: cat,dog; in their order they get the indices. By
            default all names that occur, sorted; they are written to classes.txt in `save`.

    A file that cannot be read is named and the others go on.

    Raises:
        UserError: no annotations are there, `save` has files, or not one could be read.
    """
    from ultralytics.tools.yolo2coco import read_classes

    root, target = Path(xml), Path(save)
    files = sorted(root.rglob("*.xml")) if root.is_dir() else []
    if not files:
        raise DataError(f"xml={xml!r}: no folder with .xml files; expected Pascal VOC annotations")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"save={save!r}: is there already and not empty; nothing is overwritten, choose another folder")
    names = list(read_classes(classes).values()) if classes else found_names(files)
    written, boxes, failed = 0, 0, []
    for file in files:
        try:
            rows = yolo_rows(file, names)
        except DataError as error:  # it is told, and the others go on
            failed.append(str(error))
            continue
        write_text(target / file.relative_to(root).with_suffix(".txt"), "".join(f"{row}\n" for row in rows))
        written, boxes = written + 1, boxes + len(rows)
    for message in failed[:TOLD]:
        LOGGER.warning(message)
    if len(failed) > TOLD:
        LOGGER.warning(f"... and {len(failed) - TOLD} more")
    if not written:
        raise DataError(f"xml={xml!r}: not one of {len(files)} files could be converted; the first: {failed[0]}")
    write_text(target / CLASSES, "".join(f"{name}\n" for name in names))
    LOGGER.info(
        f"{target}: {written} label files with {boxes} boxes, {len(failed)} annotations not converted; "
        f"{len(names)} classes: {', '.join(names)} ({CLASSES})"
    )


def found_names(files: list[Path]) -> list[str]:
    """Class names in the annotations, sorted. Files that are no XML are left to the conversion, which tells them."""
    names: set[str] = set()
    for file in files:
        try:
            tree = ElementTree.parse(file)
        except (ElementTree.ParseError, OSError):
            continue
        names.update(name for item in tree.iter("object") if (name := (item.findtext("name") or "").strip()))
    return sorted(names)


def yolo_rows(file: Path, names: list[str]) -> list[str]:
    """Lines `class cx cy w h` of one annotation, cut at the border of the image.

    Raises:
        DataError: it is no Pascal VOC annotation, has another class, no size of the image, or a box without area.
    """
    from ultralytics.data.converter import read_voc_xml

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
        centre = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        rows.append(f"{cls} {' '.join(f'{value:.6f}' for value in centre)}")
    return rows
