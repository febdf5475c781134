"""`yolo yolo2coco data=my.yaml`: convert YOLO labels to COCO json, with the ids of `yolo val save_json=True`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from ultralytics.cfg.values import OneOf
from ultralytics.data.dataset_yaml import label_file, list_images, load_dataset_config
from ultralytics.data.images import probe_image
from ultralytics.data.labels import ImageLabels, Problem, Rows, read_yolo_file
from ultralytics.data.verify import scan_split
from ultralytics.metrics.coco_eval import coco_annotations
from ultralytics.tools.common import check_folders, log_problems, read_classes
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.files import write_text


def command(
    data: str | None = None,
    split: Annotated[str, OneOf("train", "val", "test")] = "val",
    images: str | None = None,
    labels: str | None = None,
    classes: str | None = None,
    save: str | None = None,
) -> None:
    """Write a COCO json of YOLO labels: category ids are class indices; a file named by a number has it as image id.

    Args:
        data: a data YAML, whose `split` is converted; or give `images` and `classes` instead.
        split: train, val or test.
        images: a folder of images.
        labels: folder of their label files; by default images/... -> labels/...
        classes: text file with one class name per line, or cat,dog.
        save: file to write, `<split>.json` or `<folder>.json` by default; it must not exist.

    Raises:
        UserError: data or images cannot be found or read, two images have one id, or the file exists.
    """
    if (data is None) == (images is None):
        raise OptionError("yolo2coco: give either data=my.yaml, or images=FOLDER classes=classes.txt")
    if data is not None and (labels or classes):
        raise OptionError("yolo2coco: labels= and classes= belong to images=; data= has its own")
    target = Path(save or f"{Path(images).name if images else split}.json")
    if target.exists():
        raise DataError(f"{target}: already exists; nothing is overwritten, choose another with save=FILE")
    if data is not None:
        config = load_dataset_config(data, (split,))
        scan = scan_split(config, split)
        names, found, problems = config.names, scan.labels, list(scan.report.problems)
    else:
        names = read_classes(classes)
        found, problems = read_folder(Path(images), Path(labels) if labels else None, len(names))
    owner: dict[int | str, Path] = {}
    for item in found:
        other = owner.setdefault(item.image_id, item.file)
        if other is not item.file:
            raise DataError(f"{item.file} and {other}: both would have the id {item.image_id!r}; rename one of them")
    content = coco_annotations(found, names)
    write_text(target, json.dumps(content, ensure_ascii=False))
    log_problems([f"{problem.where}: {problem.detail}" for problem in problems])
    LOGGER.info(f"{target}: {len(found)} images, {len(content['annotations'])} boxes, {len(names)} classes")


def read_folder(images: Path, labels: Path | None, classes: int) -> tuple[list[ImageLabels], list[Problem]]:
    """Read the labels of a folder of images, and list problems; labels are at images/... -> labels/... by default."""
    check_folders(images, labels)
    found: list[ImageLabels] = []
    problems: list[Problem] = []
    for image in list_images([images], images):
        text = label_file(image) if labels is None else labels / image.relative_to(images).with_suffix(".txt")
        try:
            shape = probe_image(image)
        except DataError as error:
            problems.append(Problem("corrupt", str(image), str(error).removeprefix(f"{image}: ")))
            continue
        rows = Rows()
        if text.is_file():
            rows = read_yolo_file(text, classes)
            problems += rows.problems
        else:
            problems.append(Problem("missing_label", str(image), f"no label file {text}; counted as without objects"))
        found.append(rows.labels(image, shape, int(image.stem) if image.stem.isdecimal() else image.stem))
    return found, problems
