"""Pictures of a training run, in its folder: labels, the first batches as the network sees them, the curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ultralytics.utils.plotting import plot_images, plot_labels, plot_results

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.utils.callbacks import Callbacks

FIRST_BATCHES = 3


def add_plots(callbacks: Callbacks) -> None:
    """Draw while training runs, through the same events that users have."""
    callbacks.add("on_train_start", _draw_labels)
    callbacks.add("on_train_batch_end", _draw_batch)
    callbacks.add("on_train_end", _draw_results)


def _draw_labels(trainer: BaseTrainer) -> None:
    labels = trainer.train_loader.dataset.labels
    boxes = np.concatenate([item.boxes for item in labels])
    classes = np.concatenate([item.cls for item in labels])
    plot_labels(boxes, classes, trainer.model.names, trainer.save_dir / "labels.png")


def _draw_batch(trainer: BaseTrainer) -> None:
    if trainer.epoch == 0 and trainer.batches_done <= FIRST_BATCHES:
        path = trainer.save_dir / f"train_batch{trainer.batches_done - 1}.jpg"
        plot_images(trainer.batch, path, trainer.model.names)


def _draw_results(trainer: BaseTrainer) -> None:
    plot_results(trainer.files.results)
