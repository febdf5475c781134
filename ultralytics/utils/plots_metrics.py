"""Pictures of a validation: precision, recall and F1 curves, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ultralytics.utils.figures import new_figure, save_figure
from ultralytics.utils.fonts import drawable

if TYPE_CHECKING:
    from ultralytics.utils.confusion import ConfusionMatrix
    from ultralytics.utils.metrics import BoxMetrics

MANY_CLASSES = 20  # above this number the curves of classes are grey without a legend, and only those seen are crossed


def plot_curves(box: BoxMetrics, names: Mapping[int, str], save_dir: str | Path) -> list[Path]:
    """Save BoxPR_curve, BoxF1_curve, BoxP_curve and BoxR_curve (.png), at IoU 0.50; returns their paths."""
    curves, folder = box.curves, Path(save_dir)
    labels = [drawable(names[c])[0] for c in curves.classes]
    with_ap = [f"{label}  {ap:.3f}" for label, ap in zip(labels, box.ap50, strict=True)]
    recall_axis, conf_axis = ("Recall", curves.x), ("Confidence", curves.x)
    return [
        _curve_plot(
            folder / "BoxPR_curve.png", recall_axis, "Precision", curves.prec_values, with_ap,
            mean_label=f"mean of classes, mAP50 {box.map50:.3f}",
        ),
        *(
            _curve_plot(folder / f"Box{short}_curve.png", conf_axis, title, values, labels)
            for short, title, values in (
                ("F1", "F1", curves.f1_curve), ("P", "Precision", curves.p_curve), ("R", "Recall", curves.r_curve),
            )
        ),
    ]  # fmt: skip


def _curve_plot(
    path: Path,
    x_axis: tuple[str, np.ndarray],
    y_title: str,
    values: np.ndarray,
    labels: list[str],
    mean_label: str | None = None,
) -> Path:
    """One picture: a thin line per class, a thick one for their mean. values is (classes, points)."""
    x_title, x = x_axis
    figure = new_figure(9, 6)
    axes = figure.subplots()
    few = len(values) <= MANY_CLASSES
    for index, (line, label) in enumerate(zip(values, labels, strict=True)):
        style = {"color": f"C{index % 10}", "linestyle": "-" if index < 10 else "--"} if few else {"color": "0.75"}
        axes.plot(x, line, linewidth=1, label=label if few else None, **style)
    if len(values):
        mean = values.mean(0)
        label = mean_label or f"mean of classes, largest {mean.max():.2f} at {x[mean.argmax()]:.3f}"
        axes.plot(x, mean, linewidth=3, color="black", label=label)
        figure.legend(loc="outside right upper", frameon=False)
    axes.set(
        xlabel=x_title, ylabel=y_title, xlim=(0, 1), ylim=(0, 1.02), title=f"{y_title} over {x_title.lower()}, IoU 0.50"
    )
    axes.grid(alpha=0.3)
    return save_figure(figure, path)


def plot_confusion_matrix(matrix: ConfusionMatrix, save_dir: str | Path, *, normalize: bool) -> Path:
    """Save confusion_matrix.png (counts) or confusion_matrix_normalized.png (shares of each true class).

    Of many classes only those are drawn that were seen or predicted.
    """
    table = matrix.normalised() if normalize else matrix.matrix
    labels = np.array([drawable(name)[0] for name in (*matrix.names.values(), "background")])
    if many := len(labels) > MANY_CLASSES:
        present = matrix.matrix.sum(0) + matrix.matrix.sum(1) > 0
        table, labels = table[present][:, present], labels[present]
    size, font = (max(6.0, 2.5 + 0.26 * len(labels)), 8) if many else (max(6.0, 2.5 + 0.5 * len(labels)), 10)
    figure = new_figure(size + 1, size)
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_equal(table, 0), cmap="Blues", vmin=0, vmax=1 if normalize else None)
    figure.colorbar(image, ax=axes, shrink=0.8)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=90 if len(labels) > 6 else 0, fontsize=font)
    axes.set_yticks(ticks, labels, fontsize=font)
    if many:
        axes.grid(alpha=0.15)  # leads the eye to the names
    dark = 0.5 if normalize else table.max(initial=0) / 2
    for row, column in zip(*np.nonzero(table), strict=True):
        value = table[row, column]
        text = f"{100 * value:.0f}" if normalize and many else f"{value:.2f}" if normalize else f"{value:.0f}"
        ink = "white" if value > dark else "black"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=6 if many else font)
    kind = f"{'%' if many else 'share'} of each true class" if normalize else "objects"
    axes.set(xlabel="True", ylabel="Predicted")
    axes.set_title(f"Confusion matrix ({kind}; confidence {matrix.conf:g}, IoU {matrix.iou:g})", fontsize=11)
    return save_figure(figure, Path(save_dir) / f"confusion_matrix{'_normalized' if normalize else ''}.png")
