"""What a service that follows a training run has to offer, and the ones there are, each in a file of its own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

# The option's word -> module and class; a module is imported when its word is asked for.
LOGGERS = MappingProxyType(
    {
        "tensorboard": ("ultralytics.utils.callbacks.tensorboard", "TensorBoardLogger"),
        "wandb": ("ultralytics.utils.callbacks.wandb", "WandbLogger"),
        "mlflow": ("ultralytics.utils.callbacks.mlflow", "MlflowLogger"),
        "clearml": ("ultralytics.utils.callbacks.clearml", "ClearMLLogger"),
    }
)


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run when its training starts.

    Attributes:
        name: of the run's folder.
        project: the last part of the option `project`, or `ultralytics`.
        folder: of the run.
        options: all of them.
        size: `parameters`, and `GFLOPs` where they could be counted.
        epoch: epochs that are done; more than 0 in a resumed run.
        run_id: under which the service knows the run that is resumed; None in a new one.
    """

    name: str
    project: str
    folder: Path
    options: Mapping[str, object]
    size: Mapping[str, float]
    epoch: int
    run_id: str | None


class RunLogger:
    """Sends what a run does to one service. `__init__` imports its package, or raises MissingPackageError.

    Any method may raise what the service raises; the caller tells it and lets the training go on.
    """

    name: str

    def start(self, run: RunFacts) -> str | None:
        """Open the run with its options and size. Returns the service's name of it, to go on with after a resume."""
        raise NotImplementedError

    def log_values(self, values: Mapping[str, float], epoch: int) -> None:
        """The numbers of an epoch, counting from 1. The same epoch may come twice, after a resume."""
        raise NotImplementedError

    def log_result(self, values: Mapping[str, float]) -> None:
        """The numbers of the best weights, once, at the end."""

    def log_pictures(self, files: Sequence[Path]) -> None:
        """Pictures of the run, once, at the end."""

    def log_weights(self, file: Path) -> None:
        """The best weights, once, at the end."""

    def close(self, outcome: str) -> None:
        """The run has ended: `finished`, `interrupted` or `failed`."""
        raise NotImplementedError


def make_logger(name: str) -> RunLogger:
    """The logger of that name in LOGGERS. Raises MissingPackageError, which has the pip command."""
    module, cls = LOGGERS[name]
    return getattr(importlib.import_module(module), cls)()
