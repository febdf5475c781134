"""MLflow. Where to is MLFLOW_TRACKING_URI, and MLFLOW_EXPERIMENT_NAME or else the option `project`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ultralytics.utils.callbacks.logger_base import RunFacts, RunLogger
from ultralytics.utils.checks import require

STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
MOST_PARAMS = 100  # in one request
LONGEST_PARAM = 500  # characters; newer servers take more


class MlflowLogger(RunLogger):
    """By the client with the run's id, so that an active run of the user's own is not touched."""

    name = "mlflow"

    def __init__(self) -> None:
        self.mlflow = require("mlflow", "mlflow>=2.9", "loggers=mlflow")

    def start(self, run: RunFacts) -> str:
        from mlflow.entities import Metric, Param

        self.metric = Metric
        self.client = self.mlflow.MlflowClient()
        if run.run_id:
            self.run_id = run.run_id
            self.client.update_run(self.run_id, status="RUNNING")
            return self.run_id  # its parameters are there, and cannot be changed
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.project
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        self.run_id = self.client.create_run(number, run_name=run.name).info.run_id
        params = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in run.options.items()]
        for start in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.run_id, params=params[start : start + MOST_PARAMS])
        self.log_values({f"model/{key}": value for key, value in run.size.items()}, 0)
        return self.run_id

    def log_values(self, values: Mapping[str, float], epoch: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self.metric(_allowed(key), value, now, epoch) for key, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def log_result(self, values: Mapping[str, float]) -> None:
        self.log_values({f"best/{key}": value for key, value in values.items()}, 0)

    def log_pictures(self, files: Sequence[Path]) -> None:
        for file in files:
            self.client.log_artifact(self.run_id, str(file), "pictures")

    def log_weights(self, file: Path) -> None:
        self.client.log_artifact(self.run_id, str(file), "weights")

    def close(self, outcome: str) -> None:
        self.client.set_terminated(self.run_id, STATUS[outcome])


def _allowed(key: str) -> str:
    """The name of a metric without brackets, which MLflow refuses: metrics/mAP50-95B."""
    return key.replace("(", "").replace(")", "")
