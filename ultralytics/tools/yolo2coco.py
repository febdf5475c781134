"""`yolo yolo2coco data=my.yaml`: convert YOLO labels to COCO json, with the ids of `yolo val save_json=True`.

`yolo coco2yolo annotations=FOLDER` converts COCO json to YOLO labels.
"""

import json
from pathlib import Path
from typing import Annotated

from ultralytics.cfg.values import OneOf
from ultralytics.data.converter import convert_coco
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.data.images import probe_image
from ultralytics.data.labels import ImageLabels, image_ids, read_yolo_file
from ultralytics.data.verify import scan_split
from ultralytics.metrics.coco_files import coco_annotations
from ultralytics.tools.common import check_new, list_labeled, log_problems, read_classes
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError, counted
from ultralytics.utils.files import write_text


def command(
    data: str | None = None, split: Annotated[str, OneOf("train", "val", "test")] = "val", images: str | None = None,
    labels: str | None = None, classes: str | None = None, save: str | None = None,
) -> None:  # fmt: skip
    """Write a COCO json of the labels, in pixels of the upright images, as in predictions.json. Ids are those of the
    json of `data`, else category ids are class indices; a file named by a number has it as image id, and files of equal
    names have their paths.

    Args:
        data: a data YAML, whose `split` is converted; or give `images` and `classes` instead.
        images: a folder of images.
        labels: folder of their label files; by default images/... -> labels/...
        classes: text file with one class name per line, or cat,dog.
        save: file to write, `<split>.json` or `<folder>.json` by default; it must not exist.
    """
    if (data is None) == (images is None) or (data and (labels or classes)):
        raise OptionError("yolo2coco: give either data=my.yaml, or images=FOLDER classes=classes.txt [labels=FOLDER]")
    target = Path(save or f"{Path(images).name if images else split}.json")
    check_new(target)
    if data is not None:
        config = load_dataset_config(data, (split,))
        scan = scan_split(config, split)
        names, found, categories = config.names, scan.labels, scan.category_ids
        problems = [f"{problem.where}: {problem.detail}" for problem in scan.problems]
    else:
        names, categories = read_classes(classes), None
        found, problems = read_folder(Path(images), labels, len(names))
    content = coco_annotations(found, names, categories)
    write_text(target, json.dumps(content))
    log_problems(problems)
    boxes = counted(len(content["annotations"]), "box")
    LOGGER.info(f"{target}: {counted(len(found), 'image')}, {boxes}, {counted(len(names), 'class')}")


def coco2yolo(
    annotations: str, save: str = "coco_converted", images: str | None = None, classes: str | None = None
) -> None:
    """Write label files and a data YAML of COCO json files. Crowd regions are skipped.

    Args:
        annotations: a json file, or a folder of them.
        save: the folder to write to; it is numbered if it exists.
        images: folder of the images, or of a folder of images for each json (train2017, ...), to link beside the
            labels; sizes and EXIF orientations are read from them.
        classes: classes to keep, in the order of the new class indices: a text file with one name per line, or cat,dog.
    """
    convert_coco(annotations, save, images=images, classes=list(read_classes(classes).values()) if classes else None)


def read_folder(images: Path, labels: str | None, classes: int) -> tuple[list[ImageLabels], list[str]]:
    """Read the labels of a folder of images, and list problems; labels are at images/... -> labels/... by default."""
    found, problems = [], []
    files = list_labeled(images, labels)
    for (image, text), image_id in zip(files, image_ids([image for image, _ in files]), strict=True):
        try:
            rows = read_yolo_file(text, classes)
            found.append(rows.labels(image, probe_image(image), image_id))
            problems += [f"{problem.where}: {problem.detail}" for problem in rows.problems]
        except DataError as error:
            problems.append(str(error))
    return found, problems
