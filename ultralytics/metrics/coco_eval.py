"""Official COCO metrics, computed by faster-coco-eval (the numbers of pycocotools)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.data.labels import read_coco_json
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DataError

KINDS = {"image": "images", "category": "categories"}  # with ids, and where they are listed
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class CocoMetrics:
    """Values by the names of STATS (-1 without objects of that size), and AP by category id."""

    stats: dict[str, float]
    per_class: dict[int | str, float]

    def __str__(self) -> str:
        cells = [f"{key:<6}{value:.3f}" for key, value in self.stats.items()]
        lines = ["   ".join(cells[start : start + 3]) for start in range(0, len(cells), 3)]
        return "\n".join(["Official COCO metrics (s, m, l: small, medium, large objects)", *lines])


def evaluate_coco(
    annotations: Path | dict, predictions: Sequence[dict], image_ids: Iterable[int | str] | None = None
) -> CocoMetrics:
    """Compute the official COCO box metrics.

    Args:
        annotations: a COCO JSON file, or its content.
        predictions: entries of a COCO results file: image_id, category_id, bbox (x, y, w, h in pixels), score.
        image_ids: images to evaluate; all images of the annotations by default.

    Raises DataError if two images have the same id.
    """
    package = require("faster_coco_eval", "faster-coco-eval", "coco_eval")
    content = annotations if isinstance(annotations, dict) else read_coco_json(annotations, named=False).truth()
    # ids may be texts; the package needs numbers
    numbers: dict[str, dict[int | str, int]] = {}
    for kind, plural in KINDS.items():
        ids = [entry["id"] for entry in content[plural]]
        numbers[kind] = {value: i for i, value in enumerate(ids, 1)}
        if len(numbers[kind]) < len(ids):
            twice = next(value for value in ids if ids.count(value) > 1)
            raise DataError(f"coco_eval: several {plural} have the id {twice!r}, expected unique ids")

    def renumber(entries: Sequence[dict]) -> list[dict]:
        for kind, known in numbers.items():
            if unknown := {entry[f"{kind}_id"] for entry in entries} - known.keys():
                raise DataError(
                    f"coco_eval: got boxes of {kind} {unknown.pop()!r}, which is not among the {KINDS[kind]}"
                )
        return [{**e, **{f"{kind}_id": known[e[f"{kind}_id"]] for kind, known in numbers.items()}} for e in entries]

    images = [{**entry, "id": numbers["image"][entry["id"]]} for entry in content["images"]]
    categories = [{**entry, "id": numbers["category"][entry["id"]]} for entry in content["categories"]]
    truth = package.COCO({"images": images, "categories": categories, "annotations": renumber(content["annotations"])})
    found = package.COCO({**truth.dataset, "annotations": []})
    if predictions:
        found = truth.loadRes(renumber(predictions))
    evaluation = package.COCOeval_faster(truth, found, iouType="bbox", print_function=lambda *_: None)
    chosen = numbers["image"] if image_ids is None else image_ids
    evaluation.params.imgIds = sorted(numbers["image"][image_id] for image_id in chosen)
    evaluation.run()
    precision = evaluation.eval["precision"][..., 0, -1]  # (thresholds, recalls, classes): all areas, 100 detections
    names = list(numbers["category"])
    per_class = {
        names[category - 1]: float(precision[:, :, k].mean())
        for k, category in enumerate(evaluation.params.catIds)
        if precision[:, :, k].max() > -1
    }
    return CocoMetrics(dict(zip(STATS, map(float, evaluation.stats), strict=False)), per_class)


def coco_annotations(labels: Sequence[Any], names: dict[int, str], category_ids: Sequence[int] | None = None) -> dict:
    """Convert the labels of a data set (`DetectionDataset.labels`) to the content of a COCO JSON file, in pixels.

    Category ids are `category_ids`, by default the class indices.
    """
    category_ids = category_ids or list(names)
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
