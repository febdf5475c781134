"""Greedy matching of detections and labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ultralytics.metrics.boxes import Pairs, select
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import OptionError
from ultralytics.utils.fonts import tick_label
from ultralytics.utils.ops import bbox_ioa
from ultralytics.utils.plotting import new_figure, save_figure
from ultralytics.utils.tables import SummaryExports

MANY_CLASSES = 20
EPS = 1e-7  # added to the union, as in the published package


class ConfusionMatrix(SummaryExports):
    """Counts of (predicted, true) class pairs at one confidence and one IoU threshold.

    `matrix` is (nc + 1, nc + 1): rows are predicted, columns true classes, the last of each is the background. Other
    than for AP, a prediction may match a label of another class.

    Args:
        names: class names by index.
        conf: minimum confidence (exclusive).
        iou: minimum overlap.
    """

    def __init__(
        self, names: dict[int, str] | int | None = None, conf: float = 0.25, iou: float = 0.45,
        task: str = "detect", *, nc: int | None = None, iou_thres: float | None = None,
    ) -> None:  # fmt: skip
        if task != "detect":
            raise OptionError(f"ConfusionMatrix: task={task!r}, but this package detects boxes only")
        iou, names = iou if iou_thres is None else iou_thres, nc if names is None else names
        names = {i: str(i) for i in range(names)} if isinstance(names, int) else names or {}
        self.names, self.nc, self.conf, self.iou = names, len(names), conf, iou
        self.matrix = np.zeros((self.nc + 1, self.nc + 1))

    def count(self, found: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> None:
        """Count predictions by class and matched label (index in `true`, -1: none), and the labels without a match."""
        true = np.append(true, self.nc).astype(int)  # index -1 is the background
        np.add.at(self.matrix, (predicted.astype(int), true[found]), 1)
        missed = np.ones(len(true), bool)
        missed[found] = missed[-1] = False
        np.add.at(self.matrix, (self.nc, true[missed]), 1)

    def process_batch(
        self, detections: Tensor | Mapping[str, Tensor], batch: Tensor | Mapping[str, Tensor],
        gt_cls: Tensor | None = None, *, conf: float | None = None, iou_thres: float | None = None,
    ) -> None:  # fmt: skip
        """Match and count the detections and labels of one image.

        Args:
            detections: (n, 6) x1, y1, x2, y2, score, class; or a mapping with `bboxes`, `conf` and `cls`.
            batch: (m, 4) boxes of the labels with their classes in `gt_cls`; or a mapping with `bboxes` and `cls`.
            conf, iou_thres: in place of those of the matrix, for this image.
        """
        boxes, cls = (batch["bboxes"], batch["cls"]) if isinstance(batch, Mapping) else (batch, gt_cls)
        conf, least = self.conf if conf is None else conf, self.iou if iou_thres is None else iou_thres
        rows = as_rows(detections).numpy()
        rows = rows[rows[:, 4] > conf]
        rows = rows[np.argsort(-rows[:, 4], kind="stable")]
        iou = bbox_ioa(rows[:, :4], boxes.float().cpu().numpy(), iou=True, eps=EPS)
        near = np.nonzero(iou >= least)
        matches = assign(Pairs(*near, iou[near]), [least])
        found = np.full(len(rows), -1)
        found[matches.detection] = matches.label
        self.count(found, rows[:, 5], cls.view(-1).cpu().numpy())

    def normalized(self) -> np.ndarray:
        """Return shares of each true class: columns sum to 1, or to 0 without labels."""
        return self.matrix / self.matrix.sum(0, keepdims=True).clip(1)

    def tp_fp(self) -> tuple[np.ndarray, np.ndarray]:
        """Return true and false positives of each class, (nc,) each."""
        right = self.matrix.diagonal()[:-1]
        return right, self.matrix.sum(1)[:-1] - right

    def print(self) -> None:
        """Log the rows of the matrix."""
        for row in self.matrix:
            LOGGER.info(" ".join(f"{count:g}" for count in row))

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, str | float]]:
        """Return a row for each predicted class with a column for each true class, for a table or JSON."""
        labels = [*self.names.values(), "background"]
        return [
            {"Predicted": label, **dict(zip(labels, row.round(decimals).tolist(), strict=True))}
            for label, row in zip(labels, self.normalized() if normalize else self.matrix, strict=True)
        ]

    def plot(
        self, normalize: bool = True, save_dir: str | Path = "", names: Any = (), on_plot: Any = None, **style: Any
    ) -> Path:
        """Save confusion_matrix_normalized.png, or confusion_matrix.png with counts, and return its path.

        Of more than MANY_CLASSES classes only those that occur are drawn. `names` are shown in place of those of the
        matrix; `on_plot` is called with the path.
        """
        table = self.normalized() if normalize else self.matrix
        texts = (names.values() if isinstance(names, Mapping) else names) or self.names.values()
        labels = np.array([tick_label(name) for name in (*texts, "background")])
        inches, font = 0.5, 10  # of a cell
        if len(labels) > MANY_CLASSES:
            present = self.matrix.sum(0) + self.matrix.sum(1) > 0
            table, labels = table[present][:, present], labels[present]
            inches, font = 0.3, 7
        size = max(6.0, 2.5 + inches * len(labels))
        figure = new_figure(size + 1, size)
        axes = figure.subplots()
        image = draw_cells(axes, table, labels, font, ".2f" if normalize else ".0f", 1 if normalize else None)
        figure.colorbar(image, ax=axes, shrink=0.8)
        unit = "share of each true class" if normalize else "objects"
        axes.set_title(f"Confusion matrix ({unit}; confidence {self.conf:g}, IoU {self.iou:g})", fontsize=11)
        path = Path(save_dir) / f"confusion_matrix{'_normalized' if normalize else ''}.png"
        return save_figure(figure, path, on_plot=on_plot, **style)


def draw_cells(
    axes: Any, table: np.ndarray, labels: Sequence[str], font: float, form: str = ".0f", top: float | None = None
) -> Any:
    """Draw a confusion matrix, with shades up to `top`, and return the image of matplotlib."""
    image = axes.imshow(np.ma.masked_equal(table, 0), cmap="Blues", vmin=0, vmax=top)
    axes.set_xticks(range(len(labels)), labels, rotation=90 if len(labels) > 6 else 0, fontsize=font)
    axes.set_yticks(range(len(labels)), labels, fontsize=font)
    for row, column in zip(*np.nonzero(table), strict=True):
        value = table[row, column]
        ink = "white" if value > table.max() / 2 else "black"
        axes.text(column, row, format(value, form), ha="center", va="center", color=ink, fontsize=font)
    axes.set(xlabel="True", ylabel="Predicted")
    return image


IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


class Matches(NamedTuple):
    """Matched pairs of all thresholds, by threshold, then detection."""

    threshold: np.ndarray  # (E,) index of the threshold
    detection: np.ndarray  # (E,)
    label: np.ndarray  # (E,)


def assign(
    pairs: Pairs, thresholds: Sequence[float] = IOU_THRESHOLDS, ignored: np.ndarray | None = None,
    reusable: np.ndarray | None = None, *, last: bool = False, second_choice: bool = True,
) -> Matches:  # fmt: skip
    """Match each detection, by descending score, with the free label of the highest IoU.

    All detections propose to their best label at once, and each label keeps the best of them; the others propose to
    their next one (Gale and Shapley 1962). As all labels prefer the same order, the result is that of the greedy loop.

    Args:
        pairs: detections of an image are by descending score; their order among images has no effect.
        thresholds: minimum overlaps; each is matched independently.
        ignored: (M,) labels that are taken only if no other is free.
        reusable: (M,) labels that match any number of detections.
        last: of labels with equal IoU the last has priority, not the first.
        second_choice: without it, a detection whose best label is taken has no match.
    """
    detection, label, iou = pairs
    keys = [-label if last else label, -iou, *([] if ignored is None else [ignored[label]]), detection]
    order = np.lexsort(keys)
    detection, label, iou = detection[order], label[order], iou[order]
    level, entry = np.nonzero(iou >= np.asarray(thresholds, iou.dtype)[:, None])  # (E,) each
    proposer = level * (detection.max(initial=0) + 1) + detection[entry]
    slots = label.max(initial=0) + 1
    slot = level * slots + label[entry]
    if reusable is not None:  # each of their pairs has a slot of its own
        slot = np.where(reusable[label[entry]], len(thresholds) * slots + np.arange(len(slot)), slot)
    end = len(slot)
    holder = np.full(len(thresholds) * slots + end, end)  # entry that has the slot
    more = np.append(proposer[1:] == proposer[:-1], False)  # whether the next entry is of the same detection
    active = np.flatnonzero(np.append(True, ~more[:-1])[:end])
    while len(active):
        chosen = slot[active]
        before = holder[chosen]
        holder[chosen[::-1]] = active[::-1]  # the first of several, as entries are by priority
        holder[chosen] = now = np.minimum(holder[chosen], before)
        if not second_choice:
            break
        lost = np.sort(np.concatenate([active[now != active], before[(now != before) & (before < end)]]))
        lost = lost[(lost != np.append(-1, lost[:-1])) & more[lost]]
        active = lost + 1
    matched = np.sort(holder[holder < end])
    return Matches(level[matched], detection[entry[matched]], label[entry[matched]])


class MatchedDetections(NamedTuple):
    """N detections in the order of their images, after matching."""

    image: np.ndarray  # (N,) int64
    tp: np.ndarray  # (N, 10) bool, whether a detection is a true positive at each of IOU_THRESHOLDS
    conf: np.ndarray  # (N,) float32
    cls: np.ndarray  # (N,) int64


def by_name(rows: Tensor) -> dict[str, Tensor]:
    """Return the detections of an image (n, 6) by name, as `postprocess` does: boxes, scores and classes."""
    return {"bboxes": rows[:, :4], "conf": rows[:, 4], "cls": rows[:, 5]}


def as_rows(found: Mapping[str, Tensor] | Tensor) -> Tensor:
    """Return the detections of an image as rows (n, 6) on the CPU."""
    if isinstance(found, Mapping):
        found = torch.cat([found["bboxes"], found["conf"][:, None], found["cls"][:, None]], 1)
    return found.cpu()


def true_positives(iou: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return whether a detection (N,) is a true positive at each of IOU_THRESHOLDS (N, 10).

    Args:
        iou: (M, N) of labels and detections of an image; these are by descending score.
        predicted, true: (N,) and (M,) classes.
    """
    tp = np.zeros((len(predicted), len(IOU_THRESHOLDS)), bool)
    near = IOU_THRESHOLDS.min() <= iou.T
    detection, label = np.nonzero(near & (predicted[:, None] == true))
    if len(label):
        matches = assign(Pairs(detection, label, iou[label, detection]))
        tp[matches.detection, matches.threshold] = True
    return tp


def concatenate(parts: Sequence[MatchedDetections]) -> MatchedDetections:
    none = np.zeros(0, np.int64)
    empty = MatchedDetections(none, np.zeros((0, len(IOU_THRESHOLDS)), bool), none.astype(np.float32), none)
    return MatchedDetections(*map(np.concatenate, zip(empty, *parts, strict=True)))


def merge_ranks(parts: Sequence[MatchedDetections], block: int) -> MatchedDetections:
    """Merge the detections of all ranks, which received blocks of `block` images in turn, by image."""
    merged, rank = concatenate(parts), np.repeat(np.arange(len(parts)), [len(part.conf) for part in parts])
    return select(merged, np.lexsort((merged.image, rank, merged.image // block)))
