"""`yolo compare a.pt b.pt data=my.yaml`: are two finished models different on these images, or by chance?

A paired bootstrap over images (Efron and Tibshirani 1993, chapter 6): the same resampled images are evaluated with both
models. It covers the choice of the images only; another training with another seed varies more, see `yolo ablate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Annotated, Any

import numpy as np
import torch

from ultralytics.cfg.options import get_cfg
from ultralytics.cfg.values import Device, OneOf, Range
from ultralytics.data.build import build_dataset
from ultralytics.data.dataset import DetectionDataset
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.metrics.ap import average_precision
from ultralytics.metrics.boxes import select
from ultralytics.metrics.coco_files import numbered, read_predictions
from ultralytics.metrics.detection import DetMetrics
from ultralytics.metrics.matching import IOU_THRESHOLDS, MatchedDetections
from ultralytics.models import Model
from ultralytics.utils import LOGGER, progress
from ultralytics.utils.errors import DataError, UserError, counted
from ultralytics.utils.ops import ltwh2xyxy, xywhn2xyxy
from ultralytics.utils.tables import Column, Table

COLUMNS = (
    Column("Metric"), Column("First", ".4f"), Column("Second", ".4f"), Column("diff.", "+.4f"), Column("95% interval"),
    Column("p", ".3f"), Column("Verdict"),
)  # fmt: skip


@dataclass(frozen=True)
class Evaluated:
    """Matched detections of a model on N images: what AP needs, by image."""

    found: MatchedDetections  # by descending confidence
    labels: np.ndarray  # (N, nc) objects of each class in each image

    @classmethod
    def collect(cls, metrics: DetMetrics, dataset: DetectionDataset) -> Evaluated:
        """Collect the detections of a validation and the labels of its images."""
        matched, nc = metrics.matched, len(metrics.names)
        labels = np.zeros((len(dataset.source.labels), nc))
        for i, item in enumerate(dataset.source.labels):
            labels[i] = np.bincount(item.cls[~item.crowd].astype(int), minlength=nc)
        return cls(select(matched, np.argsort(-matched.conf, kind="stable")), labels)

    def mean_ap(self, weight: np.ndarray) -> np.ndarray:
        """Return the mean AP over the classes at each IoU threshold (10,), with images counted `weight` (N,) times."""
        totals, used = weight @ self.labels, weight[self.found.image]  # (nc,), (D,)
        result = []
        for c in np.flatnonzero(totals):
            own = np.flatnonzero((self.found.cls == c) & (used > 0))
            if not len(own):
                result.append(np.zeros(len(IOU_THRESHOLDS)))
                continue
            right = (self.found.tp[own] * used[own, None]).cumsum(0)
            recall, precision = right / totals[c], right / used[own].cumsum()[:, None]
            result.append([average_precision(r, p)[0] for r, p in zip(recall.T, precision.T, strict=True)])
        return np.mean(result, 0) if result else np.full(len(IOU_THRESHOLDS), np.nan)


def paired_bootstrap(first: Evaluated, second: Evaluated, resamples: int, seed: int = 0) -> np.ndarray:
    """Return (resamples, 2): differences of mAP50-95 and mAP50, second minus first, over resampled images."""
    rng, n = np.random.default_rng(seed), len(first.labels)
    differences = []
    for _ in progress(range(resamples), "Resampling"):
        weight = np.bincount(rng.integers(n, size=n), minlength=n).astype(float)
        change = second.mean_ap(weight) - first.mean_ap(weight)
        differences.append((change.mean(), change[0]))
    return np.array(differences)


def compare_models(first: Evaluated, second: Evaluated, resamples: int = 1000) -> Table:
    """Return a row for mAP50-95 and one for mAP50: both models, difference, percentile interval, p and verdict."""
    whole = np.ones(len(first.labels))
    scores = [evaluated.mean_ap(whole) for evaluated in (first, second)]
    differences = paired_bootstrap(first, second, resamples)
    rows = []
    for name, values, (one, other) in (
        ("mAP50-95", differences[:, 0], [score.mean() for score in scores]),
        ("mAP50", differences[:, 1], [score[0] for score in scores]),
    ):
        low, high = np.nanpercentile(values, (2.5, 97.5))
        tail = min((values <= 0).mean(), (values >= 0).mean())
        p = min(1.0, 2 * max(tail, 1 / resamples))
        verdict = "second is better" if low > 0 else "second is worse" if high < 0 else "not shown"
        interval = f"[{low:+.4f}, {high:+.4f}]"
        rows.append((name, float(one), float(other), float(other - one), interval, p, verdict))
    return Table(COLUMNS, rows)


def evaluate(source: str, data: str, split: str, options: dict[str, Any]) -> tuple[Evaluated, DetectionDataset]:
    """Validate weights or an exported model, or match stored predictions (predictions.json), on a split."""
    if Path(source).suffix == ".json":
        return _stored(source, data, split)
    found: list[DetectionDataset] = []
    model = Model(source, modules=options.get("modules"), trust=options.get("trust", False))
    model.add_callback("on_val_end", lambda validator: found.append(validator.dataset))
    metrics = model.val(data=data, split=split, plots=False, **options)
    return Evaluated.collect(metrics, found[0]), found[0]


def _stored(source: str, data: str, split: str) -> tuple[Evaluated, DetectionDataset]:
    """Match the detections of a predictions.json, of this or another program, with the labels of a split."""
    options, config = get_cfg(overrides={"mode": "val"}), load_dataset_config(data, (split,))
    dataset = build_dataset(options, config, split, training=False)
    by_image: dict[str, list[list[float]]] = {}
    ids = list(dataset.category_ids or numbered(dataset.names))
    for entry in read_predictions(Path(source)):
        if (category := entry["category_id"]) not in ids:
            raise DataError(f"{source}: category_id {category!r} is not among those of {data}: {short(ids)}")
        row = [*entry["bbox"], entry["score"], ids.index(category)]
        by_image.setdefault(str(entry["image_id"]), []).append(row)
    metrics = DetMetrics(dict(dataset.names))
    for item in dataset.source.labels:
        rows = torch.tensor(by_image.pop(str(item.image_id), [])).reshape(-1, 6)
        rows = rows[rows[:, 4].argsort(descending=True, stable=True)]
        rows[:, :4] = ltwh2xyxy(rows[:, :4])
        kept = ~item.crowd
        boxes = torch.from_numpy(xywhn2xyxy(item.boxes[kept], item.shape[1], item.shape[0]))
        metrics.add_image(rows, boxes, torch.from_numpy(item.cls[kept]))
    if by_image:
        raise DataError(
            f"{source}: has detections of {counted(len(by_image), 'image')} that are not in {data}, {split}, such as "
            f"the id {next(iter(by_image))!r}"
        )
    return Evaluated.collect(metrics, dataset), dataset


def command(
    models: list[str], data: str, split: Annotated[str, OneOf("train", "val", "test")] = "val",
    imgsz: Annotated[int | None, Range(32)] = None, batch: Annotated[int, Range(1)] = 16, device: Device = None,
    resamples: Annotated[int, Range(100)] = 1000, modules: str | None = None, trust: bool = False,
) -> None:  # fmt: skip
    """Compare two finished models on the images of a split by a paired bootstrap over the images.

    Args:
        models: two weights files, exported models, or stored predictions (predictions.json of `save_json=True`).
        data: dataset YAML.
        imgsz: size of the images; by default that of each model's training.
        resamples: number of resampled sets of images.
        modules: folder of module files that the models need.
        trust: import the module folders that the weights record.
    """
    if len(models) != 2:
        raise UserError(f"compare: expected two models, got {len(models)}")
    given = {"batch": batch, "device": device, "imgsz": imgsz, "modules": modules, "trust": trust}
    options = {key: value for key, value in given.items() if value is not None}
    (first, one), (second, other) = (evaluate(model, data, split, options) for model in models)
    if one.fingerprint != other.fingerprint:
        raise DataError(f"compare: {data} changed between the two validations")
    LOGGER.info(f"First: {models[0]}; second: {models[1]}; {data}, {split}, {counted(len(first.labels), 'image')}")
    LOGGER.info(compare_models(first, second, resamples).text())
    LOGGER.info(
        f"Paired bootstrap over images, {resamples} resamples. It does not cover the variation between trainings; "
        "`yolo ablate` does."
    )
