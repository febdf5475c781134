"""Weights & Biases. `wandb login` once, or WANDB_MODE=offline and later `wandb sync`; its WANDB_* variables hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ultralytics.utils.callbacks.logger_base import RunFacts, RunLogger
from ultralytics.utils.checks import require


class WandbLogger(RunLogger):
    name = "wandb"

    def __init__(self) -> None:
        self.wandb = require("wandb", "wandb>=0.16", "loggers=wandb")

    def start(self, run: RunFacts) -> str:
        self.run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT") or run.project,
            name=os.environ.get("WANDB_NAME") or run.name,
            dir=os.environ.get("WANDB_DIR") or str(run.folder),
            config=dict(run.options),
            id=run.run_id,
            resume="allow" if run.run_id else None,
        )
        self.run.summary.update({f"model/{key}": value for key, value in run.size.items()})
        return self.run.id

    def log_values(self, values: Mapping[str, float], epoch: int) -> None:
        # Steps only rise there: an epoch that is done again after a resume keeps its first values.
        self.run.log(dict(values), step=epoch)

    def log_result(self, values: Mapping[str, float]) -> None:
        self.run.summary.update({f"best/{key}": value for key, value in values.items()})

    def log_pictures(self, files: Sequence[Path]) -> None:
        self.run.log({f"pictures/{file.stem}": self.wandb.Image(str(file)) for file in files})

    def log_weights(self, file: Path) -> None:
        artifact = self.wandb.Artifact(f"run-{self.run.id}-weights", type="model")
        artifact.add_file(str(file))
        self.run.log_artifact(artifact, aliases=["best"])

    def close(self, outcome: str) -> None:
        self.run.finish(exit_code=0 if outcome == "finished" else 1)
