"""`DetMetrics`: the result of a validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ultralytics.metrics.ap import ClassCurves, ap_per_class
from ultralytics.metrics.matching import (
    IOU_THRESHOLDS,
    MANY_CLASSES,
    ConfusionMatrix,
    MatchedDetections,
    concatenate,
    merge_ranks,
    true_positives,
)
from ultralytics.metrics.protocols import Evaluation
from ultralytics.utils.fonts import tick_label
from ultralytics.utils.ops import box_iou
from ultralytics.utils.overrides import replaced
from ultralytics.utils.plotting import colors, new_figure, save_figure
from ultralytics.utils.tables import Column, SummaryExports, Table

CLASS_COLUMNS = (
    Column("Class"), Column("Images", "d"), Column("Instances", "d"),
    *(Column(title, ".3f") for title in ("Conf", "P", "R", "F1", "mAP50", "mAP75", "mAP50-95")),
)  # fmt: skip


class BoxMetrics:
    """Precision, recall, F1 and AP of classes with labels, and their means; the means are nan without any label.

    Attributes:
        ap_class_index: (C,) class of each row.
        conf: confidence of the highest mean F1 over the classes, smoothed.
        p, r, f1: (C,) at this confidence.
        all_ap: (C, 10) AP at IoU 0.50 to 0.95; ap is its mean, ap50 and ap75 are two of its columns, (C,) each.
        mp, mr, map50, map75, map: means over the classes.
        maps: (nc,) ap by class; classes without labels have the mean.
        curves: all of `ap_per_class`; px, p_curve, r_curve, f1_curve and prec_values are its parts.
    """

    def __init__(self, curves: ClassCurves | None = None, nc: int = 0) -> None:
        curves = curves or ap_per_class(np.zeros((0, len(IOU_THRESHOLDS)), bool), *np.zeros((3, 0)))
        self.curves, self.ap_class_index, self.conf, self.nc = curves, curves.classes, curves.conf, nc
        self.px, self.prec_values = curves.x, curves.prec_values
        self.p_curve, self.r_curve, self.f1_curve = curves.p_curve, curves.r_curve, curves.f1_curve
        self.p, self.r, self.f1, self.all_ap = curves.p, curves.r, curves.f1, curves.ap
        self.ap50, self.ap75, self.ap = self.all_ap[:, 0], self.all_ap[:, 5], self.all_ap.mean(1)
        self.mp, self.mr = _mean(self.p), _mean(self.r)
        self.map50, self.map75, self.map = _mean(self.ap50), _mean(self.ap75), _mean(self.all_ap)
        self.maps = np.full(nc, self.map)
        self.maps[self.ap_class_index] = self.ap

    def update(self, results: Sequence[np.ndarray]) -> None:
        """Take the results of `ap_per_class` from the third on, as published code gives them."""
        self.__init__(ClassCurves(*results[:2], *results), self.nc)  # without the numbers of true and false positives

    def fitness(self) -> float:
        """Return the criterion of the best epoch."""
        return self.map

    @property
    def curves_results(self) -> list[list[Any]]:
        """Return x, y (C, 1000) and the titles of the axes of the curves PR, F1, P and R."""
        axes = (("Recall", "Precision"), *(("Confidence", title) for title in ("F1", "Precision", "Recall")))
        values = self.prec_values, self.f1_curve, self.p_curve, self.r_curve
        return [[self.px, y, *titles] for y, titles in zip(values, axes, strict=True)]

    def mean_results(self) -> list[float]:
        """Return mean precision, recall, mAP50 and mAP50-95."""
        return [self.mp, self.mr, self.map50, self.map]

    def class_result(self, row: int) -> tuple[float, float, float, float]:
        """Return precision, recall, AP50 and AP50-95 of the class `ap_class_index[row]`."""
        return self.p[row], self.r[row], self.ap50[row], self.ap[row]

    def __repr__(self) -> str:
        values = zip(("P", "R", "mAP50", "mAP50-95"), self.mean_results(), strict=True)
        return f"BoxMetrics({', '.join(f'{key} {value:.3f}' for key, value in values)})"

    def plot(self, names: Mapping[int, str], save_dir: str | Path, **style: Any) -> list[Path]:
        """Save BoxPR_curve, BoxF1_curve, BoxP_curve and BoxR_curve (.png) at IoU 0.50, and return their paths."""
        c = self.curves
        labels = [tick_label(names[i]) for i in c.classes]
        with_ap = [f"{label}  {ap:.3f}" for label, ap in zip(labels, self.ap50, strict=True)]
        paths = []
        for kind, (_, values, *titles) in zip(("PR", "F1", "P", "R"), self.curves_results, strict=True):
            at = np.searchsorted(c.x, c.conf)
            best = f"{values.mean(0)[at]:.3f} at {c.conf:.3f}" if kind != "PR" and len(values) else ""
            best, texts = (best, labels) if kind != "PR" else (f"mAP50 {self.map50:.3f}", with_ap)
            file, texts = Path(save_dir) / f"Box{kind}_curve.png", dict(zip(c.classes, texts, strict=True))
            paths.append(plot_mc_curve(c.x, values, file, texts, *titles, best=best, **style))
        return paths


def plot_mc_curve(
    px: np.ndarray, py: Sequence[np.ndarray], save_dir: str | Path = Path("mc_curve.png"), names: Any = (),
    xlabel: str = "Confidence", ylabel: str = "Metric", on_plot: Any = None, *, best: str = "", **style: Any,
) -> Path:  # fmt: skip
    """Save the curves (C, n) of classes over `px`, and their mean with the text `best`, as the file `save_dir`."""
    figure, names, values = new_figure(9, 6), dict(names), np.asarray(py)
    names = names if len(names) == len(values) else {i: names.get(i, str(i)) for i in range(len(values))}
    axes = figure.subplots()
    few = len(values) <= MANY_CLASSES  # otherwise gray lines without a legend
    for (cls, text), line in zip(names.items(), values, strict=True):
        axes.plot(px, line, linewidth=1, label=text if few else None, color=colors.figure(cls) if few else "0.75")
    if len(values):
        mean = values.mean(0)
        best = best or f"{mean.max():.3f} at {px[mean.argmax()]:.3f}"
        axes.plot(px, mean, linewidth=3, color="black", label=f"mean of classes, {best}")
        figure.legend(loc="outside right upper", frameon=False)
    title = f"{ylabel} over {xlabel.lower()}, IoU 0.50"
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1.02), title=title)
    axes.grid(alpha=0.3)
    path = save_figure(figure, Path(save_dir), **style)
    if on_plot:
        on_plot(path)
    return path


def plot_pr_curve(
    px: np.ndarray, py: Sequence[np.ndarray], ap: np.ndarray, save_dir: str | Path = Path("pr_curve.png"),
    names: Any = (), on_plot: Any = None,
) -> Path:  # fmt: skip
    """Save the precision (C, n) of classes over recall `px` as the file `save_dir`; `ap` (C, T) has their APs."""
    texts = {i: f"{dict(names).get(i, i)}  {value:.3f}" for i, value in enumerate(ap[:, 0])}
    return plot_mc_curve(px, py, save_dir, texts, "Recall", "Precision", on_plot, best=f"mAP50 {ap[:, 0].mean():.3f}")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


class DetMetrics(SummaryExports):
    """Collect the detections and labels of images (`add_image`), then compute the metrics (`process`).

    Attributes:
        names: class names by index.
        box: the metrics, after `process`.
        confusion_matrix: of all images so far.
        save_dir: folder of the run; with `plot`, `process` writes the curves there.
        speed: milliseconds per image of preprocess, inference (the model), loss and postprocess.
        images, labels: (nc,) images that show a class, and its objects; also nt_per_image and nt_per_class.
        seen: number of images.
        evaluation: result by another protocol, COCO's by default, if known.
        data: name, split and fingerprint of the data set, where known.

    Examples:
        >>> import torch
        >>> metrics = DetMetrics({0: "cat"})
        >>> boxes = torch.tensor([[10.0, 10, 50, 50], [60, 60, 90, 90]])
        >>> detections = torch.cat((boxes, torch.tensor([[0.9, 0], [0.8, 0]])), 1)  # x1, y1, x2, y2, score, class
        >>> metrics.add_image(detections, boxes[:1], torch.tensor([0]))
        >>> round(metrics.process().box.map50, 3)
        0.995
    """

    nt_per_class, nt_per_image = property(attrgetter("labels")), property(attrgetter("images"))
    task = "detect"
    keys = ["metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)"]  # noqa: RUF012
    fitness = property(attrgetter("box.map"), doc="Criterion of the best epoch: mAP50-95.")
    maps, ap_class_index = property(attrgetter("box.maps")), property(attrgetter("box.ap_class_index"))
    mean_results, class_result = property(attrgetter("box.mean_results")), property(attrgetter("box.class_result"))
    curves_results = property(attrgetter("box.curves_results"))
    curves = ["Precision-Recall(B)", "F1-Confidence(B)", "Precision-Confidence(B)", "Recall-Confidence(B)"]  # noqa: RUF012

    def __init__(
        self, names: dict[int, str] | None = None, confusion_conf: float = 0.25, *,
        save_dir: str | Path = ".", plot: bool = False,
    ) -> None:  # fmt: skip
        self.names, self.save_dir, self.plot = names or {}, Path(save_dir), plot
        self.confusion_matrix = ConfusionMatrix(self.names, conf=confusion_conf)
        self.speed = dict.fromkeys(("preprocess", "inference", "loss", "postprocess"), 0.0)
        self.images, self.labels = np.zeros((2, len(self.names)), dtype=int)
        self.seen = 0
        self.evaluation: Evaluation | None = None
        self.data: tuple[str | None, str | None, str | None] = (None, None, None)
        self.box: BoxMetrics
        self._parts: list[MatchedDetections] = []  # of the batches

    def add_image(self, detections: Tensor, true_boxes: Tensor, true_cls: Tensor) -> None:
        """Match the detections of an image.

        Args:
            detections: (n, 6) x1, y1, x2, y2, score, class, by descending score.
            true_boxes: (m, 4) x1, y1, x2, y2 on the same scale.
            true_cls: (m,)
        """
        rows, boxes, cls = (tensor.float().cpu() for tensor in (detections, true_boxes, true_cls))
        conf, predicted = rows[:, 4:].numpy().T
        tp = true_positives(box_iou(boxes, rows[:, :4]).numpy(), predicted, cls.numpy())
        self.update_stats({"tp": tp, "conf": conf, "pred_cls": predicted, "target_cls": cls.numpy()})
        self.confusion_matrix.process_batch(rows, boxes, cls)

    @property
    def matched(self) -> MatchedDetections:
        """Detections of all images so far."""
        return concatenate(self._parts)

    @classmethod
    def merge(cls, parts: Sequence[DetMetrics], block: int) -> DetMetrics:
        """Merge the metrics of all ranks, which received blocks of `block` images in turn."""
        merged = cls(parts[0].names, confusion_conf=parts[0].confusion_matrix.conf)
        merged._parts = [merge_ranks([part.matched for part in parts], block)]
        for part in parts:
            merged.confusion_matrix.matrix += part.confusion_matrix.matrix
            merged.images, merged.labels = merged.images + part.images, merged.labels + part.labels
            merged.seen += part.seen
        return merged

    def update_stats(self, stat: Mapping[str, np.ndarray]) -> None:
        """Add the matched detections of one image: tp (n, 10), conf and pred_cls (n,), target_cls (m,)."""
        conf, target = np.asarray(stat["conf"]).copy(), np.asarray(stat["target_cls"]).astype(np.int64)
        own = np.full(len(conf), self.seen), np.asarray(stat["tp"]), conf, np.asarray(stat["pred_cls"]).astype(np.int64)
        self._parts.append(MatchedDetections(*own))
        counts = np.bincount(target, minlength=len(self.names))
        self.labels, self.images, self.seen = self.labels + counts, self.images + (counts > 0), self.seen + 1

    def process(self, save_dir: str | Path | None = None, plot: bool | None = None, on_plot: Any = None) -> DetMetrics:
        """Compute `box` from the images so far, and return this object; `on_plot` is called with each curve drawn."""
        matched = self.matched
        target_cls = np.repeat(np.arange(len(self.names)), self.labels)
        curves = (replaced("ap_per_class") or ap_per_class)(matched.tp, matched.conf, matched.cls, target_cls)
        self.box = BoxMetrics(ClassCurves(*curves), len(self.names))
        if self.plot if plot is None else plot:
            self.box.plot(self.names, save_dir or self.save_dir, on_plot=on_plot)
        return self

    @property
    def results_dict(self) -> dict[str, float]:
        """Means under their names in results.csv, without sizes that have no objects, and the fitness."""
        own, e = {}, self.evaluation
        if e:
            own = {f"{e.protocol.name}/{k}": v for k, v in e.stats.items() if k.startswith("AP") and v >= 0}
        return {**dict(zip(self.keys, self.box.mean_results(), strict=True)), **own, "fitness": self.fitness}

    def __getitem__(self, key: str) -> float:
        return self.results_dict[key]

    def rows(self) -> list[dict[str, str | int | float]]:
        """Return a row `all` with totals and means, and a row for each class with labels, for a table or JSON."""
        b = self.box
        rows = [("all", self.seen, int(self.labels.sum()), b.conf, b.mp, b.mr, _mean(b.f1), b.map50, b.map75, b.map)]
        columns = zip(b.ap_class_index, b.p, b.r, b.f1, b.ap50, b.ap75, b.ap, strict=True)
        rows += [(self.names[c], int(self.images[c]), int(self.labels[c]), b.conf, *map(float, v)) for c, *v in columns]
        table = [dict(zip((column.title for column in CLASS_COLUMNS), row, strict=True)) for row in rows]
        for title, values in (self.evaluation.sizes if self.evaluation else {}).items():
            for row, value in zip(table, (_mean(values[~np.isnan(values)]), *values[b.ap_class_index]), strict=True):
                row[title] = float(value)
        return table

    @property
    def columns(self) -> list[Column]:
        """Columns of the rows."""
        return [*CLASS_COLUMNS, *(Column(t, ".3f") for t in (self.evaluation.sizes if self.evaluation else ()))]

    def summary(self, normalize: bool = True, decimals: int = 5) -> list[dict[str, str | int | float]]:
        """Return the `rows` of the classes, rounded, under the titles of published code."""
        titles = {"P": "Box-P", "R": "Box-R", "F1": "Box-F1"}
        return [
            {titles.get(k, k): round(v, decimals) if isinstance(v, float) else v for k, v in row.items() if k != "Conf"}
            for row in self.rows()[1:]
        ]

    def table(self, *, classes: bool = True) -> str:
        """Return the summary as text; only the row `all` without `classes`."""
        return self._text_table(classes).text()

    def _text_table(self, classes: bool = True) -> Table:
        rows = self.rows()[: None if classes else 1] if hasattr(self, "box") else []
        return Table(self.columns, [list(row.values()) for row in rows])

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:  # of notebooks
        return self._text_table().html()
