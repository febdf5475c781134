"""COCO's official average precision, computed by the package faster-coco-eval (same numbers as pycocotools)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ultralytics.utils.errors import DataError, MissingPackageError

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class CocoMetrics:
    """`stats` under the names of STATS (-1: no such objects, as COCO has it); `per_class` is AP by category id."""

    stats: dict[str, float]
    per_class: dict[int, float]

    def __str__(self) -> str:
        lines = [f"{key:<6}{value:.3f}" for key, value in self.stats.items()]
        return "Official COCO metrics (s, m, l: small, medium, large objects)\n" + "\n".join(
            "   ".join(lines[start : start + 3]) for start in range(0, len(lines), 3)
        )


def evaluate_coco(
    annotations: Path | dict, predictions: Sequence[dict], image_ids: Iterable[int | str] | None = None
) -> CocoMetrics:
    """Official COCO box metrics.

    Args:
        annotations: a COCO json file, or its content.
        predictions: entries of a COCO results file: image_id, category_id, bbox (x, y, w, h in pixels), score.
        image_ids: images to judge; all that the annotations list when None.

    Raises MissingPackageError without faster-coco-eval, DataError for images with the same id.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingPackageError(
            "coco_eval: needs the package faster-coco-eval; install it with `pip install faster-coco-eval`"
        ) from error
    content = annotations if isinstance(annotations, dict) else json.loads(annotations.read_text(encoding="utf-8"))
    number = _numbers(content)  # ids may be names, and the package wants numbers
    truth = COCO({**content, **{key: _renumber(content[key], field, number) for key, field in _ID_FIELDS}})
    found = COCO({**truth.dataset, "annotations": []})
    if predictions:
        found = truth.loadRes(_renumber(predictions, "image_id", number))
    judge = COCOeval_faster(truth, found, iouType="bbox", print_function=lambda *_: None)
    judge.params.imgIds = sorted(number.values() if image_ids is None else (number[i] for i in image_ids))
    judge.run()
    precision = judge.eval["precision"][:, :, :, 0, -1]  # (thresholds, recalls, classes): all areas, 100 detections
    per_class = {
        int(category): float(precision[:, :, k].mean())
        for k, category in enumerate(judge.params.catIds)
        if precision[:, :, k].max() > -1
    }
    return CocoMetrics(dict(zip(STATS, np.asarray(judge.stats[: len(STATS)]).tolist(), strict=True)), per_class)


_ID_FIELDS = (("images", "id"), ("annotations", "image_id"))


def _numbers(content: dict) -> dict[int | str, int]:
    ids = [image["id"] for image in content["images"]]
    number = {image_id: i for i, image_id in enumerate(ids, 1)}
    if len(number) < len(ids):
        twice = next(image_id for image_id in ids if ids.count(image_id) > 1)
        raise DataError(f"coco_eval: several images have the id {twice!r}, expected a different one for each image")
    return number


def _renumber(entries: Sequence[dict], field: str, number: dict[int | str, int]) -> list[dict]:
    return [{**entry, field: number[entry[field]]} for entry in entries]


def coco_annotations(labels: Sequence, names: dict[int, str], category_ids: Sequence[int] | None = None) -> dict:
    """Labels of a data set (`DetectionDataset.labels`) as the content of a COCO json, in pixels of the images.

    Category ids are the class indices unless `category_ids` gives others.
    """
    category_ids = category_ids or list(names)
    images, annotations = [], []
    for item in labels:
        height, width = item.shape
        images.append({"id": item.image_id, "file_name": item.file.name, "height": height, "width": width})
        for cls, (cx, cy, w, h), crowd in zip(item.cls, item.boxes.astype(float), item.crowd, strict=True):
            w, h = w * width, h * height
            annotations.append({
                "id": len(annotations) + 1,
                "image_id": item.image_id,
                "category_id": category_ids[int(cls)],
                "bbox": [cx * width - w / 2, cy * height - h / 2, w, h],
                "area": w * h,
                "iscrowd": int(crowd),
            })  # fmt: skip
    categories = [{"id": category_ids[cls], "name": name} for cls, name in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
