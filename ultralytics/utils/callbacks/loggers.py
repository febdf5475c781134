"""Experiment trackers as callbacks: TensorBoard, Weights & Biases, MLflow and ClearML (option `loggers`)."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from ultralytics.utils import LOGGER, dist
from ultralytics.utils.callbacks.base import Callbacks
from ultralytics.utils.checks import require
from ultralytics.utils.files import first_line
from ultralytics.utils.settings import SETTINGS, TRACKERS


class LoggerCallback:
    """Send the metrics of a training run to one experiment tracker.

    Subclasses implement the methods up to `close`, which may raise: the first failure is logged and training continues.
    """

    name: str  # value of the option `loggers`, and the package to import
    requirement: str  # for pip

    def __init__(self) -> None:
        self.package = require(self.name, self.requirement, f"loggers={self.name}")
        self.is_open = self.has_warned = False

    def start(self, trainer: Any, project: str) -> None:
        """Open a run named after the run folder, and record its options."""

    def log_metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Record the metrics of an epoch, counting from 1."""

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Record values of the whole run, `model/...` at the start and `best/...` at the end; by default as epoch 0."""
        self.log_metrics(values, 0)

    def log_files(self, images: Sequence[Path], weights: Path | None) -> None:
        """Record the plots of the run and its best weights, once, at the end."""

    def close(self, outcome: str) -> None:
        """Close the run; `outcome` is `finished`, `interrupted` or `failed`."""

    def attach(self, callbacks: Callbacks) -> None:
        """Add this logger's functions to the events of training."""
        callbacks.add("on_pretrain_routine_end", self._on_start)
        callbacks.add("on_fit_epoch_end", self._on_epoch)
        callbacks.add("teardown", self._on_end)  # plots are drawn in on_train_end

    def _on_start(self, trainer: Any) -> None:
        project = Path(trainer.args.project).name if trainer.args.project else "ultralytics"
        self.is_open = True
        self.is_open = self.attempt(self.start, trainer, project)
        self.attempt(self.log_summary, {f"model/{key}": value for key, value in trainer.model_size().items()})

    def _on_epoch(self, trainer: Any) -> None:
        if trainer.epoch == trainer.finished_epochs:  # the best weights again; `_on_end` records them
            return
        values = {key: value for key, value in trainer.results_row().items() if key != "epoch"}
        self.attempt(self.log_metrics, _finite(values), trainer.epoch + 1)

    def _on_end(self, trainer: Any) -> None:
        best = {f"best/{key}": value for key, value in trainer.metrics.items() if key.startswith("metrics/")}
        images = sorted([*trainer.save_dir.glob("*.png"), *trainer.save_dir.glob("*.jpg")])
        self.attempt(self.log_summary, _finite(best))
        self.attempt(self.log_files, images, trainer.best if trainer.args.save else None)

    def attempt(self, method: Callable[..., None], *arguments: object) -> bool:
        """Call a method if the run is open. Return whether that succeeded; only the first failure is logged."""
        if not self.is_open:
            return False
        try:
            method(*arguments)
            return True
        except Exception as error:  # trackers raise errors of any type; results.csv has all metrics
            if not self.has_warned:
                reason = f"{type(error).__name__}: {first_line(error)}".rstrip(".")
                LOGGER.warning(
                    f"loggers={self.name}: {method.__name__} failed: {reason}. Training continues; all metrics are in "
                    "results.csv. Further failures of this logger are not logged."
                )
            self.has_warned = True
            return False


class TensorBoardLogger(LoggerCallback):
    """Write an event file into the run folder; view it with `tensorboard --logdir runs/detect`."""

    name, requirement = "tensorboard", "tensorboard>=2.10"

    def start(self, trainer: Any, project: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # purge_step: a killed run may have logged epochs that are repeated after the resume
        self.writer = SummaryWriter(str(trainer.save_dir), purge_step=trainer.epoch + 1 if trainer.epoch else None)
        lines = yaml.safe_dump(trainer.args.to_dict(), sort_keys=False, allow_unicode=True).splitlines()
        self.writer.add_text("options", "\n".join(f"    {line}" for line in lines))  # Markdown code block

    def log_metrics(self, values: Mapping[str, float], epoch: int) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, epoch)
        self.writer.flush()  # so that a killed run keeps its metrics

    def log_files(self, images: Sequence[Path], weights: Path | None) -> None:
        for file in images:
            pixels = np.asarray(Image.open(file).convert("RGB"))  # (H, W, 3)
            self.writer.add_image(file.stem, pixels, dataformats="HWC")

    def close(self, outcome: str) -> None:
        self.writer.close()


class WandbLogger(LoggerCallback):
    """Log to Weights & Biases: `wandb login` once, or WANDB_MODE=offline; the other WANDB_* variables apply, too."""

    name, requirement = "wandb", "wandb>=0.16"

    def start(self, trainer: Any, project: str) -> None:
        self.run = self.package.init(
            project=os.environ.get("WANDB_PROJECT") or project,
            name=os.environ.get("WANDB_NAME") or trainer.save_dir.name,
            dir=os.environ.get("WANDB_DIR") or str(trainer.save_dir),
            config=trainer.args.to_dict(),
        )

    def log_metrics(self, values: Mapping[str, float], epoch: int) -> None:
        self.run.log(dict(values), step=epoch)

    def log_summary(self, values: Mapping[str, float]) -> None:
        self.run.summary.update(values)

    def log_files(self, images: Sequence[Path], weights: Path | None) -> None:
        self.run.log({f"pictures/{file.stem}": self.package.Image(str(file)) for file in images})
        if weights is not None:
            artifact = self.package.Artifact(f"run-{self.run.id}-weights", type="model")
            artifact.add_file(str(weights))
            self.run.log_artifact(artifact, aliases=["best"])

    def close(self, outcome: str) -> None:
        self.run.finish(exit_code=0 if outcome == "finished" else 1)


class MlflowLogger(LoggerCallback):
    """Log to the server at MLFLOW_TRACKING_URI, experiment MLFLOW_EXPERIMENT_NAME or else the option `project`."""

    name, requirement = "mlflow", "mlflow>=2.9"

    def start(self, trainer: Any, project: str) -> None:
        from mlflow.entities import Metric, Param

        self.metric, self.client = Metric, self.package.MlflowClient()  # leaves the user's active run alone
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or project
        experiment = self.client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(name)
        self.run_id = self.client.create_run(experiment_id, run_name=trainer.save_dir.name).info.run_id
        params = [Param(key, str(value)[:500]) for key, value in trainer.args.to_dict().items()]
        for first in range(0, len(params), 100):  # 100 in a request at most
            self.client.log_batch(self.run_id, params=params[first : first + 100])

    def log_metrics(self, values: Mapping[str, float], epoch: int) -> None:
        now = int(time.time() * 1000)
        named = {key.replace("(", "").replace(")", ""): value for key, value in values.items()}  # brackets are rejected
        metrics = [self.metric(key, value, now, epoch) for key, value in named.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def log_files(self, images: Sequence[Path], weights: Path | None) -> None:
        for file in images:
            self.client.log_artifact(self.run_id, str(file), "pictures")
        if weights is not None:
            self.client.log_artifact(self.run_id, str(weights), "weights")

    def close(self, outcome: str) -> None:
        status = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
        self.client.set_terminated(self.run_id, status[outcome])


class ClearMLLogger(LoggerCallback):
    """Log to ClearML: `clearml-init` once, or CLEARML_OFFLINE_MODE=1."""

    name, requirement = "clearml", "clearml>=1.14"

    def start(self, trainer: Any, project: str) -> None:
        self.task = self.package.Task.init(
            project_name=project,
            task_name=trainer.save_dir.name,
            reuse_last_task_id=False,
            # otherwise it also uploads every checkpoint and figure
            auto_connect_frameworks={"pytorch": False, "matplotlib": False, "tensorboard": False},
        )
        self.task.connect(trainer.args.to_dict(), name="options")
        self.report = self.task.get_logger()

    def log_metrics(self, values: Mapping[str, float], epoch: int) -> None:
        for key, value in values.items():
            title, _, series = key.rpartition("/")
            self.report.report_scalar(title or series, series, value, iteration=epoch)

    def log_summary(self, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.report.report_single_value(key, value)

    def log_files(self, images: Sequence[Path], weights: Path | None) -> None:
        for file in images:
            self.report.report_image("pictures", file.stem, local_path=str(file))
        if weights is not None:
            self.task.upload_artifact("best", artifact_object=weights)

    def close(self, outcome: str) -> None:
        if outcome == "failed":
            self.task.mark_failed(status_reason="training ended with an error", force=True)
        self.task.close()


LOGGERS = {kind.name: kind for kind in (TensorBoardLogger, WandbLogger, MlflowLogger, ClearMLLogger)}


@contextmanager
def run_loggers(names: Sequence[str] | None, callbacks: Callbacks) -> Iterator[None]:
    """Attach the named loggers, and those on in `settings`, to a training run, on rank 0; close them at its end.

    Raises MissingPackageError, with the pip command, before training starts.
    """
    chosen = dict.fromkeys([*(names or ()), *(name for name in TRACKERS if SETTINGS[name])])
    loggers = [LOGGERS[name]() for name in chosen] if dist.rank() == 0 else []
    for logger in loggers:
        logger.attach(callbacks)
    outcome = "failed"
    try:
        yield
        outcome = "finished"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        for logger in loggers:
            logger.attempt(logger.close, outcome)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Drop nan (no labels to validate on), which some trackers reject."""
    return {key: value for key, value in values.items() if math.isfinite(value)}
