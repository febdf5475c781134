"""`yolo yolo2coco data=my.yaml`: the labels of a data set as a COCO json, with the ids of `yolo val save_json=True`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ultralytics.cfg.values import OneOf
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.files import write_text

if TYPE_CHECKING:
    from ultralytics.data.labels import ImageLabels, Problem

TOLD = 10  # problems that are told one by one


def command(
    data: str | None = None,
    split: Annotated[str, OneOf("train", "val", "test")] = "val",
    images: str | None = None,
    labels: str | None = None,
    classes: str | None = None,
    save: str | None = None,
) -> None:
    """Write a COCO json of YOLO labels: class indices become category ids, files named by a number have it as their id.

    Args:
        data: a data YAML, whose `split` is converted; or give `images` and `classes` instead.
        split: train, val or test.
        images: a folder of images.
        labels: the folder of their text files; by default where YOLO has them, images/... -> labels/...
        classes: a text file with a class name a line, or the names: cat,dog.
        save: the file to write, `<split>.json` or `<folder>.json` here by default; it must not exist.

    Raises:
        UserError: data or images cannot be found or read, two images would have one id, the file is there already.
    """
    if (data is None) == (images is None):
        raise OptionError("yolo2coco: give data=my.yaml, or images=FOLDER classes=classes.txt; one of the two")
    if data is not None and (labels or classes):
        raise OptionError("yolo2coco: labels= and classes= go with images=; data= has its own")
    target = Path(save or f"{Path(images).name if images else split}.json")
    if target.exists():
        raise DataError(f"{target}: is there already; nothing is overwritten, choose another with save=FILE")
    if data is not None:
        names, found, problems = labels_of_data(data, split)
    else:
        names = read_classes(classes)
        found, problems = labels_of_folder(Path(images), Path(labels) if labels else None, len(names))
    _check_ids(found)
    from ultralytics.metrics.coco_eval import coco_annotations

    content = coco_annotations(found, names)
    write_text(target, json.dumps(content, ensure_ascii=False))
    for problem in problems[:TOLD]:
        LOGGER.warning(f"{problem.where}: {problem.detail}")
    if len(problems) > TOLD:
        LOGGER.warning(f"... and {len(problems) - TOLD} more of {len(problems)} problems")
    LOGGER.info(f"{target}: {len(found)} images, {len(content['annotations'])} boxes, {len(names)} classes")


def labels_of_data(data: str, split: str) -> tuple[dict[int, str], list[ImageLabels], list[Problem]]:
    """Class names, labels and problems of a split of a data YAML."""
    from ultralytics.data.dataset_yaml import load_dataset_config
    from ultralytics.data.verify import scan_split

    config = load_dataset_config(data, (split,))
    scan = scan_split(config, split)
    return config.names, scan.labels, list(scan.report.problems)


def labels_of_folder(images: Path, labels: Path | None, classes: int) -> tuple[list[ImageLabels], list[Problem]]:
    """Labels and problems of a folder of images; without `labels` the text files are where YOLO has them."""
    from ultralytics.data.dataset_yaml import label_file, list_images
    from ultralytics.data.images import probe_image
    from ultralytics.data.labels import Problem, read_yolo_file

    for folder in (images, labels):
        if folder is not None and not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
    found: list[ImageLabels] = []
    problems: list[Problem] = []
    for image in list_images([images], images):
        text = label_file(image) if labels is None else labels / image.relative_to(images).with_suffix(".txt")
        try:
            shape = probe_image(image)
        except DataError as error:  # the others go on; it is told at the end
            problems.append(Problem("corrupt", str(image), str(error).removeprefix(f"{image}: ")))
            continue
        if not text.is_file():
            problems.append(Problem("missing_label", str(image), f"looked for {text}; taken as without objects"))
            rows = None
        else:
            rows = read_yolo_file(text, classes)
            problems += rows.problems
        found.append(_labels(rows, image, shape))
    return found, problems


def _labels(rows: object, image: Path, shape: tuple[int, int]) -> ImageLabels:
    from ultralytics.data.labels import Rows

    image_id = int(image.stem) if image.stem.isdecimal() else image.stem
    return (rows or Rows()).labels(image, shape, image_id)


def read_classes(classes: str | None) -> dict[int, str]:
    """Class names by index: of a text file with a name a line, or of `cat,dog`."""
    if classes is None:
        raise OptionError("classes= is missing; a text file with a class name a line, or the names: classes=cat,dog")
    file = Path(classes)
    if file.suffix == ".txt":
        if not file.is_file():
            raise DataError(f"classes={classes!r}: no such file; expected a text file with a class name a line")
        names: Sequence[str] = file.read_text(encoding="utf-8-sig").splitlines()
        while names and not names[-1].strip():  # an empty line in the middle would move the indices
            names = names[:-1]
    else:
        names = classes.split(",")
    stripped = [name.strip() for name in names]
    if not stripped or not all(stripped):
        raise DataError(f"classes={classes!r}: name {stripped.index('') + 1 if stripped else 1} is empty")
    if twice := next((name for name in stripped if stripped.count(name) > 1), None):
        raise DataError(f"classes={classes!r}: {twice!r} is there twice")
    return dict(enumerate(stripped))


def _check_ids(found: Sequence[ImageLabels]) -> None:
    seen: dict[int | str, Path] = {}
    for item in found:
        other = seen.setdefault(item.image_id, item.file)
        if other is not item.file:
            raise DataError(
                f"{item.file} and {other}: both would have the id {item.image_id!r}; rename one of them, for ids come "
                "from the names of the files"
            )
