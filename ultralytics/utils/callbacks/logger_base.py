"""What a service that follows a training run has to offer, and the ones there are, each in a file of its own."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import ModelConfigError, UserError
from ultralytics.utils.files import write_text
from ultralytics.utils.flops import get_flops

ID_FILE = "loggers.json"  # in the run's folder: under which name each service knows the run
LONGEST_PAUSE = 16  # epochs, after which a service that does not answer is tried again


@contextmanager
def followed(trainer: Any) -> Iterator[None]:
    """While the block runs, the services of the option `loggers` follow the trainer; in the main process only.

    Raises MissingPackageError before anything else happens.
    """
    loggers = [make_logger(name) for name in trainer.args.loggers or ()] if dist.rank() == 0 else []
    ids: dict[str, str] = {}
    followers = [Follower(logger, ids) for logger in loggers]
    for follower in followers:
        follower.attach(trainer.callbacks)
    outcome = "failed"
    try:
        yield
        outcome = "finished"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        for follower in followers:
            follower.close(outcome)


class Follower:
    """Turns the events of a run into calls of one logger. `ids`, by name of the logger, is shared by all of a run."""

    def __init__(self, logger: RunLogger, ids: dict[str, str]) -> None:
        self.logger = logger
        self.ids = ids
        self.started = False
        self.told = False  # that the service has failed
        self.unsent: dict[int, dict[str, float]] = {}  # values by epoch
        self.pause = self.resting = 0  # epochs to leave the service alone after a failure, and what is left of them
        self.sides: list[int] = []  # of the images of the epoch's batches, in pixels

    def attach(self, callbacks: Any) -> None:
        """Add this follower's functions to their events."""
        callbacks.add("on_pretrain_routine_end", self.start)
        callbacks.add("on_train_batch_end", self.note_batch)
        callbacks.add("on_fit_epoch_end", self.send_epoch)
        callbacks.add("teardown", self.send_results)  # pictures are drawn on_train_end

    def start(self, trainer: Any) -> None:
        """Open the run. A service that cannot be reached ends a new run, which has lost nothing yet, by a UserError.

        A resumed run goes on without it.
        """
        if trainer.resumed:
            self.ids.update(_read_ids(trainer.save_dir))
        facts = run_facts(trainer, self.ids.get(self.logger.name))
        try:
            name = self.logger.start(facts)
        except Exception as error:  # whatever this service's package raises
            message = f"loggers={self.logger.name}: the run cannot be opened there: {_reason(error)}."
            if not trainer.resumed:
                raise UserError(f"{message} Mend it, or leave {self.logger.name} out of loggers=.") from error
            LOGGER.warning(f"{message} The training goes on without it.")
            return
        self.started = True
        if name is not None:
            self.ids[self.logger.name] = name
            write_text(trainer.save_dir / ID_FILE, f"{json.dumps(self.ids)}\n")

    def note_batch(self, trainer: Any) -> None:
        self.sides.append(trainer.batch["img"].shape[-1])

    def send_epoch(self, trainer: Any) -> None:
        """The row of results.csv and the mean size of the epoch's images, with what could not be sent before."""
        values = {key: value for key, value in trainer.results_row().items() if key != "epoch"}
        if self.sides:
            values["train/imgsz"] = sum(self.sides) / len(self.sides)
            self.sides.clear()
        self.unsent[trainer.epoch + 1] = _finite(values)
        if self.resting:
            self.resting -= 1
        else:
            self.send_unsent()

    def send_unsent(self) -> None:
        """What is waiting, in order; after a failure the service is left alone for 1, 2, 4, ... epochs."""
        for epoch, values in list(self.unsent.items()):
            if not self.attempt(self.logger.log_values, values, epoch):
                self.pause = min(max(2 * self.pause, 1), LONGEST_PAUSE)
                self.resting = self.pause
                return
            del self.unsent[epoch]
        self.pause = 0

    def send_results(self, trainer: Any) -> None:
        """At the end of the run: the numbers of the best weights, pictures, and the weights themselves."""
        self.send_unsent()
        # The last validation was that of the best weights; the losses beside it are of the last epoch.
        metrics = {key: value for key, value in trainer.metrics.items() if key.startswith("metrics/")}
        self.attempt(self.logger.log_result, _finite(metrics))
        pictures = sorted(file for kind in ("*.png", "*.jpg") for file in trainer.save_dir.glob(kind))
        self.attempt(self.logger.log_pictures, pictures)
        if trainer.args.save:
            self.attempt(self.logger.log_weights, trainer.best)

    def close(self, outcome: str) -> None:
        self.send_unsent()
        self.attempt(self.logger.close, outcome)

    def attempt(self, function: Callable[..., None], *arguments: object) -> bool:
        """Call it where the run is open. False when it failed, which is told the first time and ends nothing."""
        if not self.started:
            return True
        try:
            function(*arguments)
        except Exception as error:  # whatever this service's package raises: results.csv has all numbers anyway
            if not self.told:
                LOGGER.warning(
                    f"loggers={self.logger.name}: {function.__name__} failed: {_reason(error)}. The training goes on; "
                    "its numbers are sent again later, and are all in results.csv. This is told once."
                )
            self.told = True
            return False
        return True


def run_facts(trainer: Any, run_id: str | None) -> RunFacts:
    """What a logger is told at the start; the size is that of the network without what only training has."""
    network = trainer.ema.ema
    size = {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    try:
        size["GFLOPs"] = get_flops(network, trainer.args.imgsz)
    except ModelConfigError as error:
        LOGGER.warning(f"The model's operations could not be counted: {error}")
    project = trainer.args.project
    return RunFacts(
        name=trainer.save_dir.name,
        project=Path(project).name if project else "ultralytics",
        folder=trainer.save_dir,
        options=trainer.args.to_dict(),
        size=size,
        epoch=trainer.epoch,
        run_id=run_id,
    )


def _read_ids(folder: Path) -> dict[str, str]:
    file = folder / ID_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Without nan (nothing was labelled), which some services refuse."""
    return {key: value for key, value in values.items() if math.isfinite(value)}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0].rstrip('.')}"


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
