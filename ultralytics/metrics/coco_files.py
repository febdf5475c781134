"""COCO files to `EvalBoxes`: annotations, and predictions as written by this package, the published one and others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np
from torch import Tensor

from ultralytics.data.labels import is_number, read_coco_json, size_of_entry
from ultralytics.metrics.boxes import EvalBoxes
from ultralytics.utils.errors import DataError, counted
from ultralytics.utils.files import read_json

KEYS = {  # of an entry: what its value must be; true is not an id
    **dict.fromkeys(
        ("image_id", "category_id"),
        lambda value: type(value) in (int, str) or (type(value) is float and value % 1 == 0),
    ),
    "bbox": lambda value: isinstance(value, list) and [*map(is_number, value)] == [True] * 4,
    "score": is_number,
}
SLACK = 1.0  # pixels by which a box may leave its image without a message


def as_json(found: Mapping[str, Tensor], image: int = 0) -> np.ndarray:
    """Return (n, 7) image, class, score, x, y, width, height of detections in pixels of a file, rounded."""
    (low, high), score = found["bboxes"].numpy().astype(float).reshape(-1, 2, 2).swapaxes(0, 1), found["conf"].numpy()
    columns = found["cls"].numpy(), score.astype(float).round(6), low.round(3), (high - low).round(3)
    return np.column_stack([np.full(len(score), image), *columns])


def numbered(names: Mapping[int, str]) -> list[int]:
    """Return the category ids of classes without a COCO JSON, from 1, as in published predictions."""
    return [index + 1 for index in names]


def label_columns(content: dict, image_of: Mapping, class_of: Mapping) -> list[np.ndarray]:
    """Return the columns of `EvalBoxes.build` of the annotations of a COCO file, by index of image and category."""
    entries = content["annotations"]
    return [
        np.array([image_of[e["image_id"]] for e in entries], np.int64),
        np.array([class_of[e["category_id"]] for e in entries], np.int64),
        np.array([e["bbox"] for e in entries], float).reshape(-1, 4),
        np.array([e["area"] for e in entries], float),
        np.array([e["iscrowd"] for e in entries], bool),
        np.array([e.get("ignore", 0) for e in entries], bool),
    ]


def read_boxes(annotations: Path, predictions: Sequence[Path]) -> tuple[list[EvalBoxes], list[str]]:
    """Read an annotation file and some predictions files for it.

    Ids of predictions are those of the annotations, also as texts; images may be given by their file names.

    Returns:
        Boxes for each predictions file, and messages of what was left out or changed.

    Raises:
        DataError: a file is not of its format, or predictions are of other images or categories.
    """
    truth = read_coco_json(annotations, named=False)
    content = truth.truth()
    messages = [f"{problem.where}: {problem.detail}" for problem in truth.problems]
    given = [entry for group in truth.annotations.values() for entry in group]
    faulty = [f"annotation {short(e.get('id'))}: {problem}" for e in given if (problem := truth.problem_of(e))]
    changes = {
        f"left out; {faulty[0] if faulty else ''}": len(faulty),
        "without `area`: width times height is used": sum(not is_number(e.get("area")) for e in given),
        "without `iscrowd`: not a crowd": sum("iscrowd" not in e for e in given),
    }
    messages += [f"{annotations}: {counted(n, 'annotation')} {what}" for what, n in changes.items() if n]
    ids = [image["id"] for image in truth.images]
    names = [str(image.get("file_name", "")) for image in truth.images]
    image_of, class_of = _lookup(ids, names), _lookup(list(truth.categories))
    labels = label_columns(content, image_of, class_of)
    sizes = np.array([(size_of_entry(image) or (np.inf, np.inf))[::-1] for image in truth.images]).reshape(-1, 2)
    if len(rows := np.flatnonzero(_leaves(labels[2], sizes[labels[0]]) | (labels[2][:, 2:] <= 0).any(1))):
        first = short({key: content["annotations"][rows[0]][key] for key in ("image_id", "bbox")})
        messages.append(f"{annotations}: {counted(len(rows), 'annotation')} outside the image or without area: {first}")
    used = [*truth.categories.values()]  # equal names get the id
    classes = [name if used.count(name) == 1 else f"{name} ({key})" for key, name in truth.categories.items()]
    found = []
    for file in predictions:
        columns = _prediction_columns(file, read_predictions(file), annotations, image_of, class_of, sizes, messages)
        found.append(EvalBoxes.build(ids, dict(enumerate(classes)), columns, labels, names))
    return found, messages


def _lookup(ids: Sequence[int | str], names: Sequence[str] = ()) -> dict[int | str, int]:
    """Return the index of each id, of the same id as text or number, and of file names that differ, or their stems."""
    known: dict[int | str, int] = {}
    files = [Path(name.replace("\\", "/")) for name in names if name]
    others = [[str(i) for i in ids], [int(i) if str(i).isdecimal() else i for i in ids]]
    for column in ([file.stem for file in files], [file.name for file in files]):
        if len(set(column)) == len(ids):
            others += [column, [int(name) if name.isdecimal() else name for name in column]]
    for column in (ids, *others):
        for index, value in enumerate(column):
            known.setdefault(value, index)
    return known


def _leaves(box: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return which boxes (N, 4) x, y, w, h leave their images (N, 2) w, h."""
    return ((box[:, :2] < -SLACK) | (box[:, :2] + box[:, 2:] > size + SLACK)).any(1)


def _prediction_columns(
    file: Path, entries: list[dict], annotations: Path, image_of: Mapping, class_of: Mapping, sizes: np.ndarray,
    messages: list[str],
) -> list[np.ndarray]:  # fmt: skip
    """Return the columns of `EvalBoxes.build`; add messages of what is unusual."""
    indices = []
    for key, known in (("image_id", image_of), ("category_id", class_of)):
        if rows := [number for number, entry in enumerate(entries) if entry[key] not in known]:
            foreign = [*dict.fromkeys(entries[number][key] for number in rows)]
            hint = "; those of a data set without a json count from 1" if key == "category_id" else ""
            more = f" and {len(foreign) - 1} more are" if len(foreign) > 1 else " is"
            raise DataError(
                f"{file}: detection {rows[0]}: {key} {foreign[0]!r}{more} not in {annotations}; make both from the "
                f"same data set, `yolo yolo2coco data=...` and `yolo val data=...`{hint}"
            )
        indices.append(np.array([known[entry[key]] for entry in entries], np.int64))
    image, cls = indices
    score = np.array([entry["score"] for entry in entries], float)
    box = np.array([entry["bbox"] for entry in entries], float).reshape(-1, 4)
    unusual = {
        "outside the image, used as given": _leaves(box, sizes[image]),
        "without area, false positives": (box[:, 2:] <= 0).any(1),
        "with a score outside 0..1; only the order of scores has an effect": (score < 0) | (score > 1),
    }
    for what, rows in unusual.items():
        if rows.any():
            first = np.flatnonzero(rows)[0]
            number = counted(rows.sum(), "detection")
            messages.append(f"{file}: {number} {what}; number {first}: {short(entries[first])}")
    images = len(np.unique(image))
    if images < len(sizes) / 2:
        messages.append(f"{file}: detections on {images} of {len(sizes)} images only; are they of the same split?")
    return [image, cls, score, box]


def read_predictions(file: Path) -> list[dict]:
    """Read the entries of a COCO results file. Raise DataError if it is none."""
    entries = read_json(file, DataError)
    if not isinstance(entries, list):
        raise DataError(f"{file}: expected a list of detections, as written by `yolo val save_json=True`")
    for number, entry in enumerate(entries):
        given = entry if isinstance(entry, dict) else {}
        if wrong := next((key for key, fits in KEYS.items() if not fits(given.get(key))), None):
            what = f"{wrong} {short(given[wrong])} of " if wrong in given else ""
            expected = "image_id, category_id (whole numbers or texts), bbox [x, y, width, height] in pixels, and score"
            raise DataError(f"{file}: {what}detection {number}, {short(entry)}; expected {expected}, all finite")
    return entries


def coco_annotations(labels: Sequence[Any], names: dict[int, str], category_ids: Sequence[int] | None = None) -> dict:
    """Convert the labels of a data set (`DetectionDataset.labels`) to the content of a COCO JSON file, in pixels.

    Category ids are `category_ids`, by default from 1.
    """
    category_ids = category_ids or numbered(names)
    images, annotations = [], []
    for item in labels:
        height, width = item.shape
        name = item.file.name  # several images may have it, then ids are ends of their paths
        name = item.image_id if str(item.image_id).endswith(name) else name
        images.append({"id": item.image_id, "file_name": name, "height": height, "width": width})
        for cls, (cx, cy, w, h), crowd in zip(item.cls, item.boxes.astype(float), item.crowd, strict=True):
            w, h = w * width, h * height
            entry = {"id": len(annotations) + 1, "image_id": item.image_id, "category_id": category_ids[int(cls)]}
            box = [cx * width - w / 2, cy * height - h / 2, w, h]
            annotations.append({**entry, "bbox": box, "area": w * h, "iscrowd": int(crowd)})
    categories = [{"id": category_ids[cls], "name": name} for cls, name in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
