"""Time and memory of the cells of a study: the estimate before it, and the latencies after it, measured in turns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from ultralytics.models import Model
from ultralytics.models.benchmark import Speed, measure_speed, measure_speeds, peak_memory, run_in_process
from ultralytics.utils import setup_logging
from ultralytics.utils.errors import UserError
from ultralytics.utils.torch_utils import select_device


class _Measured(BaseException):
    """Ends a training after its first steps; no handler of the trainer takes it for an error."""


def estimate_hours(options: Mapping[str, Any], batches: int) -> float:
    """Return the hours of a training with these options, from the time of its first steps; nothing is written.

    A validation is taken to need a third of the time of as many training images.
    """
    if options.get("time"):
        return options["time"]
    times: list[float] = []
    lengths: list[int] = []

    def stop(trainer: Any) -> None:
        times.append(time.perf_counter())
        if len(times) > min(batches, len(trainer.train_loader) - 1):
            lengths.extend([len(trainer.train_loader), len(trainer.val_loader), trainer.epochs])
            raise _Measured

    model = Model(options["model"], verbose=False, modules=options.get("modules"))
    model.add_callback("on_train_batch_start", lambda trainer: times or times.append(time.perf_counter()))
    model.add_callback("on_train_batch_end", stop)
    given = {key: value for key, value in options.items() if key != "model"}
    quiet = {"save": False, "plots": False, "val": False, "verbose": False}
    with TemporaryDirectory() as folder, suppress(_Measured):
        model.train(**{**given, **quiet}, project=folder)
    setup_logging()
    steps = np.diff(times)
    step = float(steps[1:].mean() if len(steps) > 1 else steps.mean())
    training, validation, epochs = lengths or (1, 1, 1)
    return epochs * step * (training + validation / 3) / 3600


def open_network(model: str, nc: int, modules: Sequence[str] = ()) -> nn.Module:
    """Build the network of a model file or of weights, for its size."""
    detector = Model(model, modules=list(modules))
    if detector.checkpoint is not None:
        return detector.model
    return detector.network_class(model, nc=nc, overrides={"modules": list(modules)})


def cell_speeds(
    models: Mapping[str, str], nc: int, imgsz: int, device: str | None, modules: Sequence[str]
) -> dict[str, Speed]:
    """Measure the networks of model files in turns, in batches of one, by the name of their cell.

    On the CPU the peak memory is that of a process of its own.
    """
    networks = {name: open_network(model, nc, modules) for name, model in models.items()}
    place = select_device(device)
    speeds = measure_speeds(networks, imgsz=imgsz, device=place)
    for name, model in models.items() if place.type == "cpu" else ():
        with suppress(UserError):  # the process has failed: its memory is not known
            speeds[name] = replace(speeds[name], memory=run_in_process(measure_memory, model, nc, imgsz, modules))
    return speeds


def measure_memory(model: str, nc: int, imgsz: int, modules: Sequence[str]) -> float | None:
    """Return the peak memory of this process in MB, after two runs of a folded network on the CPU."""
    network, device = open_network(model, nc, modules).fuse(), torch.device("cpu")
    measure_speed(network, imgsz=imgsz, device=device, warmup=0, repeats=2)
    return peak_memory(device)
