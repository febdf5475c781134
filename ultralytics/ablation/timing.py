"""Time and memory of the cells of a study: the estimate before it, and the latencies after it, measured in turns."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from ultralytics.models import Model
from ultralytics.models.benchmark import measure_speed, peak_memory
from ultralytics.nn.accelerate import for_inference
from ultralytics.utils import setup_logging
from ultralytics.utils.torch_utils import select_device

ROUNDS, RUNS, WARMUP = 10, 5, 3  # of the latency: turns of all cells, runs in a turn, and runs before the first turn
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


@dataclass(frozen=True)
class Speed:
    """Latency of one image in milliseconds, in the two forms, and peak memory.

    Attributes:
        folded: median with batch norms folded into convolutions, the same form for every network.
        optimized: median with all rewrites of `nn.accelerate` that apply, which are known for stock layers only.
        rewrites: their number.
        memory: peak in MB of the folded form; None where it cannot be measured.
    """

    folded: float
    folded_spread: float  # half the distance of the quartiles
    optimized: float
    rewrites: int
    memory: float | None


def measure_speeds(
    networks: Mapping[str, nn.Module], imgsz: int, device: str | None, memory: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Speed]:
    """Measure all networks in turns, so that a change of the machine's speed meets all of them alike.

    Args:
        networks: by the name of their cell.
        imgsz: side of the images, in batches of one.
        memory: arguments of a process that measures the peak memory on the CPU, by the name of the cell.
    """
    place = select_device(device)
    forms: dict[tuple[str, str], nn.Module] = {}
    rewrites: dict[str, int] = {}
    for name, network in networks.items():
        fast = for_inference(network.eval(), place)
        rewrites[name] = sum(getattr(fast, "rewrites", {}).values())
        forms[name, "optimized"] = fast
        forms[name, "folded"] = network.fuse()
    times: dict[tuple[str, str], list[float]] = {form: [] for form in forms}
    peaks: dict[str, float | None] = {}
    for turn in range(ROUNDS):
        for form, network in forms.items():
            runs = {"warmup": 1 if turn else WARMUP, "repeats": RUNS}
            times[form] += measure_speed(network, imgsz=imgsz, device=place, **runs).tolist()
            if form[1] == "folded" and place.type == "cuda":
                peaks[form[0]] = max(peaks.get(form[0]) or 0.0, peak_memory(place))
    for name, arguments in (memory or {}).items() if place.type == "cpu" else ():
        child = subprocess.run([sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True)
        text = child.stdout.strip().splitlines()[-1:] if child.returncode == 0 else []
        peaks[name] = float(text[0]) if text and text[0] != "None" else None
    speeds = {}
    for name in networks:
        folded, optimized = (np.array(times[name, form]) for form in ("folded", "optimized"))
        low, high = np.percentile(folded, (25, 75))
        medians = float(np.median(folded)), float((high - low) / 2), float(np.median(optimized))
        speeds[name] = Speed(*medians, rewrites[name], peaks.get(name))
    return speeds


def fps(milliseconds: float) -> float:
    """Return images per second of a latency."""
    return 1000 / milliseconds if milliseconds > 0 else math.nan
