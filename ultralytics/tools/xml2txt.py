"""`yolo xml2txt xml=Annotations save=labels`: convert Pascal VOC annotations to YOLO text files."""

from pathlib import Path

from ultralytics.data.converter import class_name, read_voc_xml, read_xml, write_rows
from ultralytics.data.labels import Rows
from ultralytics.tools.common import check_empty, log_problems, read_classes
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, counted
from ultralytics.utils.files import list_files, write_text


def command(xml: str, save: str, classes: str | None = None) -> None:
    """Write a text file of `class cx cy w h` for each annotation. Objects marked difficult are left out.

    Files and boxes that cannot be used are reported, and the others are converted.

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
    rows_of: dict[Path, Rows] = {}
    problems = []
    for file in files:
        try:
            rows_of[file] = read_voc_xml(file, names)
        except DataError as error:
            problems.append(str(error))
    if not rows_of:
        raise DataError(f"xml={xml!r}: none of its files could be converted; the first: {problems[0]}")
    failed, boxes = len(problems), 0
    for file, rows in rows_of.items():
        boxes += write_rows(target / file.relative_to(xml).with_suffix(".txt"), rows)
        problems += [f"{problem.where}: {problem.detail}" for problem in rows.problems]
    write_text(target / "classes.txt", "".join(f"{name}\n" for name in names))
    log_problems(problems)
    LOGGER.info(
        f"{target}: {counted(len(rows_of), 'label file')} with {counted(boxes, 'box')}, "
        f"{counted(failed, 'annotation')} not converted; "
        f"{counted(len(names), 'class')}: {', '.join(names)} (classes.txt)"
    )


def find_names(files: list[Path]) -> list[str]:
    """Return the class names in annotations, sorted."""
    names: set[str] = set()
    for file in files:
        try:
            names |= {class_name(item) for item in read_xml(file).iter("object")}
        except DataError:
            continue  # `command` reports it
    return sorted(names - {""})
