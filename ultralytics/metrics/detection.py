"""The result of a validation: precision, recall and AP per class and overall, the confusion matrix and the speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ultralytics.metrics.ap import ClassCurves, ap_of_hits, ap_per_class, average_precision
from ultralytics.metrics.matching import (
    BLOCK,
    IOU_THRESHOLDS,
    ConfusionMatrix,
    Judged,
    Waiting,
    dealt_out,
    judge,
    match_predictions,
    one_after_the_other,
)
from ultralytics.utils.ops import bbox_iou, box_iou

if TYPE_CHECKING:
    from ultralytics.metrics.coco_eval import CocoMetrics


__all__ = [
    "BoxMetrics",
    "ConfusionMatrix",
    "DetMetrics",
    "ap_per_class",
    "average_precision",
    "bbox_iou",
    "box_iou",
    "match_predictions",
]


class BoxMetrics:
    """Precision, recall, F1 and AP, per class (rows of `ap_class_index`) and as means over the classes with labels.

    Without any label the means are nan: there is nothing to have found.
    """

    def __init__(self, curves: ClassCurves, nc: int) -> None:
        self.curves, self.nc = curves, nc
        self.p, self.r, self.f1, self.all_ap = curves.p, curves.r, curves.f1, curves.ap
        self.ap_class_index = curves.classes

    @property
    def ap50(self) -> np.ndarray:
        """AP at IoU 0.50 of each class with labels."""
        return self.all_ap[:, 0]

    @property
    def ap75(self) -> np.ndarray:
        """AP at IoU 0.75 of each class with labels."""
        return self.all_ap[:, 5]

    @property
    def ap(self) -> np.ndarray:
        """Mean AP over IoU 0.50 to 0.95 of each class with labels."""
        return self.all_ap.mean(1)

    @property
    def mp(self) -> float:
        """Mean precision."""
        return _mean(self.p)

    @property
    def mr(self) -> float:
        """Mean recall."""
        return _mean(self.r)

    @property
    def map50(self) -> float:
        """Mean AP at IoU 0.50."""
        return _mean(self.ap50)

    @property
    def map75(self) -> float:
        """Mean AP at IoU 0.75."""
        return _mean(self.ap75)

    @property
    def map(self) -> float:
        """Mean AP over IoU 0.50 to 0.95."""
        return _mean(self.all_ap)

    @property
    def maps(self) -> np.ndarray:
        """(nc,) AP over IoU 0.50 to 0.95; classes without labels have the mean."""
        maps = np.full(self.nc, self.map)
        maps[self.ap_class_index] = self.ap
        return maps

    def mean_results(self) -> list[float]:
        """Means: precision, recall, mAP50, mAP50-95."""
        return [self.mp, self.mr, self.map50, self.map]

    def class_result(self, row: int) -> tuple[float, float, float, float]:
        """Precision, recall, AP50 and AP50-95 of the class `ap_class_index[row]`."""
        return self.p[row], self.r[row], self.ap50[row], self.ap[row]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


class DetMetrics:
    """Collects one image after another (`add_image`), then computes (`process`).

    Attributes:
        names: class index to name.
        box: the numbers; there after `process`.
        confusion_matrix: counted on the way.
        speed: milliseconds per image of preprocess, inference (the model) and postprocess.
        images, labels: (nc,) images that show a class, and its objects.
        seen: number of images.
        coco: official COCO metrics, where they were asked for.
    """

    keys = ("metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)")

    def __init__(self, names: dict[int, str], confusion_conf: float = 0.25) -> None:
        self.names = names
        self.confusion_matrix = ConfusionMatrix(names, conf=confusion_conf)
        self.speed = {"preprocess": 0.0, "inference": 0.0, "postprocess": 0.0}
        self.images, self.labels = np.zeros((2, len(names)), dtype=int)
        self.seen = 0
        self.coco: CocoMetrics | None = None
        self.box: BoxMetrics
        self._waiting: list[Waiting] = []
        self._judged: list[Judged] = []

    def add_image(self, detections: Tensor, true_boxes: Tensor, true_cls: Tensor) -> None:
        """As `add_batch`, of a single image: (n, 6), (m, 4), (m,)."""
        self.add_batch([detections], torch.zeros(len(true_cls)), true_boxes, true_cls)

    def add_batch(self, detections: Sequence[Tensor], image: Tensor, true_boxes: Tensor, true_cls: Tensor) -> None:
        """Take images in; they are judged some hundred at a time.

        Args:
            detections: of each image (n, 6) x1, y1, x2, y2, score, class, the best first.
            image: (m,) the image each label belongs to, counted from 0.
            true_boxes: (m, 4) x1, y1, x2, y2 on the same scale.
            true_cls: (m,)
        """
        nc, counts = len(self.names), np.array([len(rows) for rows in detections])
        owner, labels = (tensor.cpu().numpy().astype(np.int64) for tensor in (image, true_cls))
        rows, boxes = torch.cat(tuple(detections)).float().cpu().numpy(), true_boxes.float().cpu().numpy()
        self._waiting.append(Waiting(counts, rows, owner, boxes, labels))
        self.labels += np.bincount(labels, minlength=nc)
        self.images += np.bincount(np.unique(owner * nc + labels) % nc, minlength=nc)
        self.seen += len(counts)
        if sum(len(part.rows) for part in self._waiting) >= BLOCK:
            self._judge_waiting()

    def _judge_waiting(self) -> None:
        if self._waiting:
            self._judged.append(judge(self._waiting, self.confusion_matrix))
            self._waiting = []

    @property
    def judged(self) -> Judged:
        """What has been found right, over all images so far."""
        self._judge_waiting()
        self._judged = [one_after_the_other(self._judged)]
        return self._judged[0]

    @classmethod
    def joined(cls, parts: Sequence[DetMetrics], block: int) -> DetMetrics:
        """One collection from several that were dealt blocks of `block` images in turn."""
        whole = cls(parts[0].names, confusion_conf=parts[0].confusion_matrix.conf)
        whole._judged = [dealt_out([part.judged for part in parts], block)]
        whole.confusion_matrix.matrix = sum(part.confusion_matrix.matrix for part in parts)
        whole.images, whole.labels = sum(part.images for part in parts), sum(part.labels for part in parts)
        whole.seen = sum(part.seen for part in parts)
        return whole

    def process(self) -> DetMetrics:
        """Compute `box` from the images so far, and return this object."""
        found = self.judged
        curves = ap_of_hits(found.row, found.column, found.conf, found.cls, self.labels, len(IOU_THRESHOLDS))
        self.box = BoxMetrics(curves, len(self.names))
        return self

    @property
    def fitness(self) -> float:
        """What decides which epoch is the best: mAP50-95."""
        return self.box.map

    @property
    def maps(self) -> np.ndarray:
        """(nc,) AP over IoU 0.50 to 0.95; classes without labels have the mean."""
        return self.box.maps

    @property
    def ap_class_index(self) -> np.ndarray:
        """Classes that have labels."""
        return self.box.ap_class_index

    @property
    def results_dict(self) -> dict[str, float]:
        """The means under the names of results.csv, and the fitness."""
        return {**dict(zip(self.keys, self.box.mean_results(), strict=True)), "fitness": self.fitness}

    def mean_results(self) -> list[float]:
        """Means: precision, recall, mAP50, mAP50-95."""
        return self.box.mean_results()

    def class_result(self, row: int) -> tuple[float, float, float, float]:
        """Precision, recall, AP50 and AP50-95 of the class `ap_class_index[row]`."""
        return self.box.class_result(row)

    def summary(self) -> list[dict[str, str | int | float]]:
        """One row for each class with labels, after a row `all` of the totals and means; fit for a table or JSON."""
        b = self.box
        mean_f1 = float(b.f1.mean()) if b.f1.size else float("nan")
        rows = [("all", self.seen, int(self.labels.sum()), b.mp, b.mr, mean_f1, b.map50, b.map75, b.map)]
        columns = zip(b.ap_class_index, b.p, b.r, b.f1, b.ap50, b.ap75, b.ap, strict=True)
        rows += [(self.names[c], int(self.images[c]), int(self.labels[c]), *map(float, v)) for c, *v in columns]
        header = ("Class", "Images", "Instances", "P", "R", "F1", "mAP50", "mAP75", "mAP50-95")
        return [dict(zip(header, row, strict=True)) for row in rows]

    def table(self, *, classes: bool = True) -> str:
        """The summary as lines of text; only the means without `classes`."""
        rows = self.summary()[: None if classes else 1]
        width = max(len(str(row["Class"])) for row in rows) + 2
        lines = [f"{'Class':>{width}}" + "".join(f"{column:>11}" for column in list(rows[0])[1:])]
        for row in rows:
            name, images, instances, *numbers = row.values()
            lines.append(f"{name:>{width}}{images:>11}{instances:>11}" + "".join(f"{n:>11.3f}" for n in numbers))
        return "\n".join(lines)
