"""Confusion matrix of a detector: which class is taken for which, what is missed, and what is seen where nothing is."""

from __future__ import annotations

import numpy as np

from ultralytics.utils.matching import match_predictions


class ConfusionMatrix:
    """Counts of (predicted, true) class pairs at one confidence and one overlap.

    `matrix` is (nc + 1, nc + 1): rows predicted, columns true, the last of each is the background. Unlike for AP a
    prediction may be matched to a label of another class: that is what the matrix is there to show.
    """

    def __init__(self, names: dict[int, str], conf: float = 0.25, iou: float = 0.45) -> None:
        self.names = names
        self.nc = len(names)
        self.conf = conf
        self.iou = iou
        self.matrix = np.zeros((self.nc + 1, self.nc + 1))

    def add_image(self, iou: np.ndarray, conf: np.ndarray, pred_cls: np.ndarray, true_cls: np.ndarray) -> None:
        """Count one image: iou (labels, predictions), the predictions in descending order of `conf`."""
        sure = conf > self.conf
        self.count(match_predictions(iou[:, sure], [self.iou])[:, 0], pred_cls[sure], true_cls)

    def count(self, found: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> None:
        """Count predictions by their class, the position of the label they have found (-1: none), and all labels."""
        true = np.append(true, self.nc).astype(int)  # found == -1 means the background
        np.add.at(self.matrix, (predicted.astype(int), true[found]), 1)
        missed = np.ones(len(true), bool)
        missed[found] = missed[-1] = False
        np.add.at(self.matrix, (self.nc, true[missed]), 1)

    def normalised(self) -> np.ndarray:
        """Share of each true class (each column sums to 1); columns without labels stay 0."""
        return self.matrix / self.matrix.sum(0, keepdims=True).clip(1)

    def tp_fp(self) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives of each class, (nc,) each."""
        right = self.matrix.diagonal()[:-1]
        return right, self.matrix.sum(1)[:-1] - right

    def summary(self, normalize: bool = False) -> list[dict[str, str | float]]:
        """One row for each predicted class, a column for each true class; fit for a table or JSON."""
        labels = [*self.names.values(), "background"]
        table = self.normalised() if normalize else self.matrix
        return [
            {"Predicted": label, **dict(zip(labels, row.tolist(), strict=True))}
            for label, row in zip(labels, table, strict=True)
        ]

    def plot(self, normalize: bool = True, save_dir: str = "") -> None:
        """Draw the matrix into `save_dir`."""
        from ultralytics.utils.plots_metrics import plot_confusion_matrix  # matplotlib is slow to import

        plot_confusion_matrix(self, save_dir, normalize=normalize)
