"""`yolo coco annotations=val.json predictions=predictions.json`: COCO's official metrics from two files."""

import json
from pathlib import Path
from reprlib import repr as short

from ultralytics.data.labels import is_number, read_coco_json
from ultralytics.metrics.coco_eval import evaluate_coco
from ultralytics.tools.common import check_new
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import read_json, write_text
from ultralytics.utils.tables import Column, Table

MEANINGS = {
    "AP": "AP at IoU 0.50:0.95", "AP50": "AP at IoU 0.50", "AP75": "AP at IoU 0.75",
    "APs": "AP, small: area below 32² pixels", "APm": "AP, medium: 32² to 96²", "APl": "AP, large: from 96²",
    "AR1": "AR, 1 detection per image", "AR10": "AR, 10", "AR100": "AR, 100",
    "ARs": "AR, small", "ARm": "AR, medium", "ARl": "AR, large",
}  # fmt: skip
NO_OBJECTS = -1  # COCO's value of a metric without objects
KEYS = {"image_id": int | str, "category_id": int | str, "bbox": list, "score": int | float}


def command(annotations: str, predictions: str, save: str | None = None) -> None:
    """Evaluate detections in COCO's results format; show the twelve metrics and the AP of each class.

    Args:
        annotations: COCO json with images, annotations and categories, such as that of `yolo yolo2coco`.
        predictions: list of {image_id, category_id, bbox [x, y, width, height], score}, as written by
            `yolo val save_json=True`.
        save: json file to write the metrics to; it must not exist.
    """
    if save:
        check_new(save)
    truth_file, found_file = Path(annotations), Path(predictions)
    truth = read_coco_json(truth_file, named=False)
    found = read_predictions(found_file)
    for field, known in (("image_id", {image["id"] for image in truth.images}), ("category_id", {*truth.categories})):
        if foreign := sorted({entry[field] for entry in found} - known, key=str):
            raise DataError(
                f"{found_file}: {field} {foreign[0]!r} and {len(foreign) - 1} more are not in {truth_file}; make both "
                "from the same data set, `yolo yolo2coco data=...` and `yolo val data=...`"
            )
    metrics = evaluate_coco(truth.truth(), found)
    rows = [(key, None if value == NO_OBJECTS else value, MEANINGS[key]) for key, value in metrics.stats.items()]
    per_class = [(truth.categories[category], value) for category, value in metrics.per_class.items()]
    LOGGER.info(
        f"{Table((Column('Figure'), Column('Value', '.4f'), Column('Meaning')), rows).text()}\n\n"
        f"{Table((Column('Class'), Column('AP', '.4f')), per_class).text()}\n\n"
        f"{len(found)} detections on {len({entry['image_id'] for entry in found})} of {len(truth.images)} images"
    )
    if save:
        content = {"stats": metrics.stats, "per_class": dict(per_class)}
        write_text(save, json.dumps(content, indent=1, ensure_ascii=False))
        LOGGER.info(f"{save} written")


def read_predictions(file: Path) -> list[dict]:
    """Read the entries of a COCO results file. Raise DataError if it is none."""
    entries = read_json(file, DataError)
    if not isinstance(entries, list):
        raise DataError(f"{file}: expected a list of detections, as written by `yolo val save_json=True`")
    for number, entry in enumerate(entries):
        fits = isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in KEYS.items())
        if not fits or [is_number(v) for v in (*entry["bbox"], entry["score"])] != [True] * 5:
            expected = "image_id, category_id, bbox [x, y, width, height] in pixels, and score"
            raise DataError(f"{file}: detection {number} is {short(entry)}; expected {expected}")
    return entries
