"""Time and memory of the cells of a study: the estimate before it, and the latencies after it, measured in turns."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from ultralytics.models import Model
from ultralytics.models.benchmark import Speed, measure_speeds
from ultralytics.utils import setup_logging
from ultralytics.utils.torch_utils import select_device

MEMORY = """
import sys, torch
from ultralytics.ablation.runner import open_network
from ultralytics.models import Model
from ultralytics.models.benchmark import measure_speed, peak_memory
model, nc, imgsz, *modules = sys.argv[1:]
network = open_network(model, int(nc), modules).fuse()
measure_speed(network, imgsz=int(imgsz), device=torch.device("cpu"), warmup=0, repeats=2)
print(peak_memory(torch.device("cpu")))
"""


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


def cell_speeds(
    networks: Mapping[str, nn.Module], imgsz: int, device: str | None, memory: Mapping[str, Sequence[str]]
) -> dict[str, Speed]:
    """Measure all networks in turns, in batches of one, by the name of their cell.

    On the CPU the peak memory is that of a process of its own, with the arguments `memory` of the cell.
    """
    place = select_device(device)
    speeds = measure_speeds(networks, imgsz=imgsz, device=place)
    for name, arguments in memory.items() if place.type == "cpu" else ():
        child = subprocess.run([sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True)
        text = child.stdout.strip().splitlines()[-1:] if child.returncode == 0 else []
        if text and text[0] != "None":
            speeds[name] = replace(speeds[name], memory=float(text[0]))
    return speeds
