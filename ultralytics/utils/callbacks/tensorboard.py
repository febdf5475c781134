"""TensorBoard: an event file in the run's folder. To look at it: `tensorboard --logdir runs/detect`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from ultralytics.utils.callbacks.logger_base import RunFacts, RunLogger
from ultralytics.utils.checks import require


class TensorBoardLogger(RunLogger):
    name = "tensorboard"

    def __init__(self) -> None:
        require("tensorboard", "tensorboard>=2.10", "loggers=tensorboard")

    def start(self, run: RunFacts) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A run that was killed may have written epochs which are done again.
        self.writer = SummaryWriter(str(run.folder), purge_step=run.epoch + 1 if run.epoch else None)
        self.last = run.epoch
        if not run.epoch:
            lines = yaml.safe_dump(dict(run.options), sort_keys=False, allow_unicode=True).splitlines()
            self.writer.add_text("options", "\n".join(f"    {line}" for line in lines))  # indented: as it is
            for key, value in run.size.items():
                self.writer.add_scalar(f"model/{key}", value, 0)
        self.writer.flush()

    def log_values(self, values: Mapping[str, float], epoch: int) -> None:
        self.last = epoch
        for key, value in values.items():
            self.writer.add_scalar(key, value, epoch)
        self.writer.flush()  # what a killed run has written can be seen

    def log_result(self, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(f"best/{key}", value, self.last)

    def log_pictures(self, files: Sequence[Path]) -> None:
        for file in files:
            with Image.open(file) as picture:
                pixels = np.asarray(picture.convert("RGB"))  # (H, W, 3)
            self.writer.add_image(file.stem, pixels, self.last, dataformats="HWC")

    def close(self, outcome: str) -> None:
        self.writer.close()
