"""ClearML. `clearml-init` once, or CLEARML_OFFLINE_MODE=1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ultralytics.utils.callbacks.logger_base import RunFacts, RunLogger
from ultralytics.utils.checks import require


class ClearMLLogger(RunLogger):
    name = "clearml"

    def __init__(self) -> None:
        self.clearml = require("clearml", "clearml>=1.14", "loggers=clearml")

    def start(self, run: RunFacts) -> str:
        going_on = {"reuse_last_task_id": run.run_id, "continue_last_task": 0} if run.run_id else {}
        self.task = self.clearml.Task.init(
            project_name=run.project,
            task_name=run.name,
            # What it would report by itself: each saved checkpoint, each figure.
            auto_connect_frameworks={"pytorch": False, "matplotlib": False, "tensorboard": False},
            **(going_on or {"reuse_last_task_id": False}),
        )
        self.task.connect(dict(run.options), name="options")
        for key, value in run.size.items():
            self.task.get_logger().report_single_value(f"model/{key}", value)
        return self.task.id

    def log_values(self, values: Mapping[str, float], epoch: int) -> None:
        for key, value in values.items():
            title, _, series = key.rpartition("/")
            self.task.get_logger().report_scalar(title or series, series, value, iteration=epoch)

    def log_result(self, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.task.get_logger().report_single_value(f"best/{key}", value)

    def log_pictures(self, files: Sequence[Path]) -> None:
        for file in files:
            self.task.get_logger().report_image("pictures", file.stem, local_path=str(file))

    def log_weights(self, file: Path) -> None:
        self.task.upload_artifact("best", artifact_object=file)

    def close(self, outcome: str) -> None:
        if outcome == "failed":
            self.task.mark_failed(status_reason="the training ended with an error", force=True)
        self.task.close()
