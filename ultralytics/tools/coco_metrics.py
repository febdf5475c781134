"""`yolo coco annotations=val.json predictions=predictions.json`: COCO's official figures from two files."""

from __future__ import annotations

import json
from pathlib import Path

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import read_json, write_text
from ultralytics.utils.tables import Column, Table

MEANINGS = {
    "AP": "AP at IoU 0.50:0.95", "AP50": "AP at IoU 0.50", "AP75": "AP at IoU 0.75",
    "APs": "AP, small: area below 32² pixels", "APm": "AP, medium: 32² to 96²", "APl": "AP, large: from 96²",
    "AR1": "AR, 1 detection an image", "AR10": "AR, 10", "AR100": "AR, 100",
    "ARs": "AR, small", "ARm": "AR, medium", "ARl": "AR, large",
}  # fmt: skip
NO_OBJECTS = -1  # what COCO says where there are none
RESULT_KEYS = ("image_id", "category_id", "bbox", "score")


def command(annotations: str, predictions: str, save: str | None = None) -> None:
    """Judge detections in COCO's results format by a COCO annotation file; show its figures and the AP of each class.

    Args:
        annotations: the json with images, annotations and categories; `yolo yolo2coco` writes one.
        predictions: a list of {image_id, category_id, bbox [x, y, width, height], score}, as `yolo val save_json=True`
            writes it.
        save: a json file to write the figures to; it must not exist.

    Raises:
        UserError: a file cannot be read or is of another kind, or the two have other image or category ids.
        MissingPackageError: faster-coco-eval is not installed.
    """
    from ultralytics.data.labels import read_coco_json
    from ultralytics.metrics.coco_eval import evaluate_coco

    truth_file, found_file = Path(annotations), Path(predictions)
    if save and Path(save).exists():
        raise DataError(f"save={save!r}: is there already; nothing is overwritten, choose another name")
    truth = read_coco_json(truth_file)
    found = read_predictions(found_file)
    _check_ids(found, "image_id", {image["id"] for image in truth.images}, truth_file, found_file)
    _check_ids(found, "category_id", set(truth.categories), truth_file, found_file)
    metrics = evaluate_coco(truth_file, found)
    rows = [(key, None if value == NO_OBJECTS else value, MEANINGS[key]) for key, value in metrics.stats.items()]
    LOGGER.info(Table((Column("Figure"), Column("Value", ".4f"), Column("Meaning")), rows).text())
    classes = [(truth.categories[category], value) for category, value in metrics.per_class.items()]
    LOGGER.info("\n" + Table((Column("Class"), Column("AP", ".4f")), classes).text())
    judged = len({entry["image_id"] for entry in found})
    LOGGER.info(f"\n{len(found)} detections on {judged} of {len(truth.images)} images")
    if save:
        named = {truth.categories[category]: value for category, value in metrics.per_class.items()}
        write_text(save, json.dumps({"stats": metrics.stats, "per_class": named}, indent=1, ensure_ascii=False))
        LOGGER.info(f"{save} written")


def read_predictions(file: Path) -> list[dict]:
    """Entries of a COCO results file. DataError for what is none."""
    entries = read_json(file, DataError)
    if not isinstance(entries, list):
        got = f"an object with {', '.join(list(entries)[:4])}" if isinstance(entries, dict) else type(entries).__name__
        raise DataError(f"{file}: expected a list of detections, as `yolo val save_json=True` writes it; got {got}")
    for number, entry in enumerate(entries):
        missing = [key for key in RESULT_KEYS if key not in (entry if isinstance(entry, dict) else ())]
        if missing:
            raise DataError(
                f"{file}: detection {number} has no {', '.join(missing)}; expected {', '.join(RESULT_KEYS)}"
            )
        box = entry["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
            raise DataError(f"{file}: detection {number}: bbox is {box!r}, expected [x, y, width, height] in pixels")
        for key, kinds in (("image_id", int | str), ("category_id", int | str), ("score", int | float)):
            if not isinstance(entry[key], kinds):
                raise DataError(f"{file}: detection {number}: {key} is {entry[key]!r}, expected a number")
    return entries


def _check_ids(found: list[dict], field: str, known: set, truth_file: Path, found_file: Path) -> None:
    """Ids that the annotations do not have would count as nothing, or as false: say so instead."""
    foreign = sorted({entry[field] for entry in found} - known, key=str)
    if foreign:
        expected = ", ".join(repr(i) for i in sorted(known, key=str)[:5])
        raise DataError(
            f"{found_file}: {field} {foreign[0]!r} and {len(foreign) - 1} more are not in {truth_file}, whose ids are "
            f"such as {expected}; make both from the same data set, `yolo yolo2coco data=...` and `yolo val data=...`"
        )
