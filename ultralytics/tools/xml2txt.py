"""`yolo xml2txt xml=Annotations save=labels`: convert Pascal VOC annotations to YOLO text files."""

import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from pathlib import Path

from ultralytics.data.converter import read_voc_xml
from ultralytics.tools.common import check_empty, log_problems, read_classes
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import list_files, write_text


def command(xml: str, save: str, classes: str | None = None) -> None:
    """Write a text file of `class cx cy w h` for each annotation. Objects marked difficult are left out.

    A file that cannot be read is reported, and the others are converted.

    Args:
        xml: a folder of .xml files, with subfolders.
        save: the folder to write to; it must be empty or not exist.
        classes: text file with one class name per line, or cat,dog, in the order of the class indices; by default all
            names that occur, sorted. They are written to `save`/classes.txt.
    """
    target, files = check_empty(save), list_files(xml, (".xml",))
    if not files:
        raise DataError(f"xml={xml!r}: no folder with .xml files; expected Pascal VOC annotations")
    names = list(read_classes(classes).values()) if classes else find_names(files)
    rows_of: dict[Path, list[str]] = {}
    failed = []
    for file in files:
        try:
            rows_of[file] = yolo_rows(file, names)
        except DataError as error:
            failed.append(str(error))
    if not rows_of:
        raise DataError(f"xml={xml!r}: none of {len(files)} files could be converted; the first: {failed[0]}")
    for file, rows in rows_of.items():
        write_text(target / file.relative_to(xml).with_suffix(".txt"), "".join(f"{row}\n" for row in rows))
    write_text(target / "classes.txt", "".join(f"{name}\n" for name in names))
    log_problems(failed)
    LOGGER.info(
        f"{target}: {len(rows_of)} label files with {sum(map(len, rows_of.values()))} boxes, {len(failed)} annotations "
        f"not converted; {len(names)} classes: {', '.join(names)} (classes.txt)"
    )


def find_names(files: list[Path]) -> list[str]:
    """Return the class names in annotations, sorted."""
    names: set[str] = set()
    for file in files:
        with suppress(ElementTree.ParseError):  # `yolo_rows` reports it
            names |= {(item.findtext("name") or "").strip() for item in ElementTree.parse(file).iter("object")}
    return sorted(names - {""})


def yolo_rows(file: Path, names: list[str]) -> list[str]:
    """Return the lines `class cx cy w h` of an annotation, with boxes clipped to the image."""
    (height, width), boxes = read_voc_xml(file, names)
    rows = []
    for cls, x1, y1, x2, y2 in boxes:
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
        if right <= left or bottom <= top:
            raise DataError(
                f"{file}: a box of {names[cls]!r} has no area in the image, whose size is {width} x {height}"
            )
        box = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
        rows.append(f"{cls} {' '.join(f'{value:.6f}' for value in box)}")
    return rows
