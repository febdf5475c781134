"""Random detections and labels with crowds, ties, empty images, absent classes, and more detections than the limits."""

import contextlib
import importlib
import io
from typing import Any

import numpy as np

from ultralytics.metrics.boxes import EvalBoxes


def random_set(seed: int) -> tuple[int, int, list[dict], list[dict]]:
    """Return the numbers of images and classes, labels and detections; half of the sets have boxes of whole pixels."""
    rng = np.random.default_rng(seed)
    images, nc = int(rng.integers(1, 7)), int(rng.integers(1, 6))
    whole, scale, absent = rng.random() < 0.5, rng.choice([30, 120, 400]), rng.integers(0, nc)

    def rounded(box: np.ndarray) -> list[float]:
        box = box.round() if whole else box
        return [*box[:2].tolist(), *box[2:].clip(1).tolist()]

    labels, found = [], []
    for image in range(images):
        own = []
        for _ in range(0 if rng.random() < 0.2 else int(rng.integers(0, 9))):
            box = rounded(np.concatenate([rng.uniform(0, scale, 2), rng.uniform(2, scale, 2)]))
            cls = int(rng.integers(0, nc))
            cls = (cls + 1) % nc if cls == absent and rng.random() < 0.8 else cls
            share = rng.uniform(0.5, 1) if rng.random() < 0.3 else 1  # of a polygon
            entry = {"image": image, "cls": cls, "box": box, "area": box[2] * box[3] * share}
            own.append(entry | {"crowd": bool(rng.random() < 0.15)})
        labels += own
        for _ in range(0 if rng.random() < 0.15 else int(rng.integers(0, 25 if rng.random() < 0.8 else 260))):
            cls, box = int(rng.integers(0, nc)), np.concatenate([rng.uniform(0, scale, 2), rng.uniform(1, scale, 2)])
            if own and rng.random() < 0.7:
                near = own[rng.integers(len(own))]
                cls = cls if rng.random() < 0.2 else near["cls"]
                moved = rng.normal(0, 0.15, 4) * np.tile(near["box"][2:], 2) * (rng.random() < 0.8)
                box = np.array(near["box"]) + moved
            score = round(rng.random(), 1 if rng.random() < 0.5 else 15)
            found.append({"image": image, "cls": cls, "box": rounded(box), "score": score})
    return images, nc, labels, found


def image_ids(images: int, labels: list[dict]) -> list[int]:
    """Return ids of images in random order: equal scores are ranked by them."""
    return (np.random.default_rng(len(labels)).permutation(images) + 1).tolist()


def to_boxes(images: int, nc: int, labels: list[dict], found: list[dict]) -> EvalBoxes:
    def column(rows: list[dict], key: str, kind: type) -> np.ndarray:
        return np.array([row[key] for row in rows], kind)

    both = [[column(rows, "image", int), column(rows, "cls", int)] for rows in (found, labels)]
    boxes = [column(rows, "box", float).reshape(-1, 4) for rows in (found, labels)]
    crowd = column(labels, "crowd", bool)
    return EvalBoxes.build(
        image_ids(images, labels), {c: str(c) for c in range(nc)}, (*both[0], column(found, "score", float), boxes[0]),
        (*both[1], boxes[1], column(labels, "area", float), crowd, np.zeros_like(crowd)),
    )  # fmt: skip


def evaluated_by(package: str, images: int, nc: int, labels: list[dict], found: list[dict]) -> Any:
    """Return the evaluation of a package with the interface of pycocotools."""
    ids = image_ids(images, labels)
    truth = {
        "images": [{"id": i, "width": 900, "height": 900} for i in ids],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(nc)],
        "annotations": [
            {
                **{"id": n, "image_id": ids[row["image"]], "category_id": row["cls"] + 1, "bbox": row["box"]},
                **{"area": row["area"], "iscrowd": int(row["crowd"])},
            }
            for n, row in enumerate(labels, 1)
        ],
    }
    results = [
        {"image_id": ids[r["image"]], "category_id": r["cls"] + 1, "bbox": r["box"], "score": r["score"]} for r in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        if package == "pycocotools":
            coco = importlib.import_module("pycocotools.coco").COCO()
            coco.dataset = truth
            coco.createIndex()
            evaluation = importlib.import_module("pycocotools.cocoeval").COCOeval
        else:
            module = importlib.import_module(package)
            coco, evaluation = module.COCO(truth), module.COCOeval_faster
        judged = evaluation(coco, coco.loadRes(results), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged
