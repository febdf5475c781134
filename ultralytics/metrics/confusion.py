"""The confusion matrix of a detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ultralytics.utils.plotting import drawable, new_figure, save_figure

MANY_CLASSES = 20


class ConfusionMatrix:
    """Counts of (predicted, true) class pairs at one confidence and one IoU threshold.

    `matrix` is (nc + 1, nc + 1): rows are predicted, columns true classes, the last of each is the background. Other
    than for AP, a prediction may match a label of another class.

    Args:
        names: class names by index.
        conf: minimum confidence (exclusive).
        iou: minimum overlap.
    """

    def __init__(self, names: dict[int, str], conf: float = 0.25, iou: float = 0.45) -> None:
        self.names, self.nc, self.conf, self.iou = names, len(names), conf, iou
        self.matrix = np.zeros((self.nc + 1, self.nc + 1))

    def count(self, found: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> None:
        """Count predictions by class and matched label (index in `true`, -1: none), and the labels without a match."""
        true = np.append(true, self.nc).astype(int)  # index -1 is the background
        np.add.at(self.matrix, (predicted.astype(int), true[found]), 1)
        missed = np.ones(len(true), bool)
        missed[found] = missed[-1] = False
        np.add.at(self.matrix, (self.nc, true[missed]), 1)

    def normalized(self) -> np.ndarray:
        """Return shares of each true class: columns sum to 1, or to 0 without labels."""
        return self.matrix / self.matrix.sum(0, keepdims=True).clip(1)

    def tp_fp(self) -> tuple[np.ndarray, np.ndarray]:
        """Return true and false positives of each class, (nc,) each."""
        right = self.matrix.diagonal()[:-1]
        return right, self.matrix.sum(1)[:-1] - right

    def summary(self, normalize: bool = False) -> list[dict[str, str | float]]:
        """Return a row for each predicted class with a column for each true class, for a table or JSON."""
        labels = [*self.names.values(), "background"]
        table = self.normalized() if normalize else self.matrix
        return [
            {"Predicted": label, **dict(zip(labels, row.tolist(), strict=True))}
            for label, row in zip(labels, table, strict=True)
        ]

    def plot(self, normalize: bool = True, save_dir: str | Path = "") -> Path:
        """Save confusion_matrix_normalized.png, or confusion_matrix.png with counts, and return its path.

        Of more than MANY_CLASSES classes only those that occur are drawn.
        """
        table = self.normalized() if normalize else self.matrix
        labels = np.array([drawable(name) for name in (*self.names.values(), "background")])
        inches, font = 0.5, 10  # of a cell
        if len(labels) > MANY_CLASSES:
            present = self.matrix.sum(0) + self.matrix.sum(1) > 0
            table, labels = table[present][:, present], labels[present]
            inches, font = 0.3, 7
        size = max(6.0, 2.5 + inches * len(labels))
        figure = new_figure(size + 1, size)
        axes = figure.subplots()
        image = axes.imshow(np.ma.masked_equal(table, 0), cmap="Blues", vmin=0, vmax=1 if normalize else None)
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set_xticks(range(len(labels)), labels, rotation=90 if len(labels) > 6 else 0, fontsize=font)
        axes.set_yticks(range(len(labels)), labels, fontsize=font)
        for row, column in zip(*np.nonzero(table), strict=True):
            value = table[row, column]
            ink = "white" if value > table.max() / 2 else "black"
            text = f"{value:.2f}" if normalize else f"{value:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=font)
        unit = "share of each true class" if normalize else "objects"
        axes.set(xlabel="True", ylabel="Predicted")
        axes.set_title(f"Confusion matrix ({unit}; confidence {self.conf:g}, IoU {self.iou:g})", fontsize=11)
        return save_figure(figure, Path(save_dir) / f"confusion_matrix{'_normalized' if normalize else ''}.png")
