"""Speed: `yolo fps` of a network, `yolo profile` of each of its layers, `yolo benchmark` of all its exports."""

from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import nn

from ultralytics.cfg.values import Device, OneOf, Range
from ultralytics.models import Model
from ultralytics.models.benchmark import measure_speeds, peak_memory, run_benchmark
from ultralytics.nn.summary import ORDERS, inspect_model, layer_table
from ultralytics.tools.common import load_network, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz, image_stride
from ultralytics.utils.errors import DeviceError
from ultralytics.utils.tables import Column, Table
from ultralytics.utils.torch_utils import clock, describe_device, half_dtype, select_device

COLUMNS = (
    Column("Model"), Column("Size (px)", "d"), Column("Batch", "d"), Column("Precision"),
    Column("Folded (ms)", ".2f"), Column("± (ms)", ".2f"), Column("FPS (folded)", ".1f"),
    Column("Optimized (ms)", ".2f"), Column("FPS (optimized)", ".1f"), Column("Rewrites", "d"),
    Column("Memory (MB)", ".0f"),
)  # fmt: skip

benchmark = partial(run_benchmark, Model)


def command(
    model: list[str], imgsz: Annotated[int, Range(32)] = 640, batch: Annotated[int, Range(1)] = 1,
    device: Device = None, warmup: Annotated[int, Range(0)] = 20, repeats: Annotated[int, Range(2)] = 100,
    half: bool = False, nc: Annotated[int | None, Range(1)] = None, modules: str | None = None, trust: bool = False,
    project: str | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Measure the speed of networks, in turns and in the same form, and write fps.txt, .md, .tex and .csv.

    Args:
        model: one or several of weights (.pt), exported models, or model YAMLs (random weights take the same time).
        batch, warmup, repeats: images in one run, runs that are not timed, and timed runs.
        half: 16-bit mixed precision, on CUDA only.
        nc: number of classes in place of the model YAML's.
        modules, trust: a folder of modules, or import those that the weights record.
        project, name: folder of the table, `runs/fps/fps` by default; numbered when taken.
    """
    place = select_device(device)
    dtype = half_dtype(place) if half else None
    if half and dtype is None:
        raise DeviceError(f"half=True: expected a CUDA device, got {place}; leave half out, or choose a GPU: device=0")
    networks = {file: load_network(file, nc, modules, exported=True, trust=trust) for file in model}
    size = max(check_imgsz(imgsz, image_stride(network)) for network in networks.values())
    runs = {"batch": batch, "warmup": warmup, "repeats": repeats, "dtype": dtype}
    rows = []
    for file, speed in measure_speeds(networks, imgsz=size, device=place, **runs).items():
        folded, optimized = (ms and 1000 * batch / ms for ms in (speed.folded, speed.optimized))
        memory = speed.memory if speed.memory or len(model) > 1 else peak_memory(place)
        times = (speed.folded, speed.spread, folded, speed.optimized, optimized, speed.rewrites, memory)
        rows.append((file, size, batch, str(dtype or torch.float32).removeprefix("torch."), *times))
    table = Table(COLUMNS, rows)
    folder = tool_dir("fps", project, name, "fps")
    table.write(folder, "fps", "Latency of networks, measured in turns on one machine.")
    LOGGER.info(
        f"{describe_device(place)}; medians of {repeats} timed runs after {warmup} warmup runs, ± half the quartile "
        "distance; folded: batch norms in convolutions, the same form for every network; optimized: with rewrites that "
        "know stock layers only; memory: "
        f"{'peak of torch on the GPU' if place.type == 'cuda' else 'peak of the process, one model only'}\n"
        f"{table.text()}\n{folder}: fps.txt, .md, .tex, .csv written"
    )


def profile(
    model: str, imgsz: Annotated[int, Range(32)] = 640, batch: Annotated[int, Range(1)] = 1,
    device: Device = None, warmup: Annotated[int, Range(0)] = 5, repeats: Annotated[int, Range(1)] = 20,
    sort: Annotated[str, OneOf(*ORDERS)] = "layer", nc: Annotated[int | None, Range(1)] = None,
    modules: str | None = None, trust: bool = False, project: str | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Show the cost of each layer, and write it to `project`/`name` as profile.txt, .md, .tex and .csv.

    Args:
        batch, warmup, repeats: images in one run, runs that are not timed, and timed runs.
        sort: the most expensive first; `layer` is the order of the model.
        nc: number of classes in place of the model YAML's.
        modules, trust: a folder of modules, or import those that the weights record.
    """
    place = select_device(device)
    network = load_network(model, nc, modules, trust=trust)
    size = check_imgsz(imgsz, image_stride(network))
    inspection = inspect_model(network, size)
    times = layer_times(network, torch.rand(batch, 3, size, size), place, warmup, repeats)
    table = layer_table(inspection, times, sort)
    folder = tool_dir("profile", project, name, Path(model).stem)
    table.write(folder, "profile", f"Layers of {Path(model).stem} at {size} pixels.")
    LOGGER.info(
        f"{table.text()}\n{inspection.info}\n{describe_device(place)}; times of a batch of {batch}, means of {repeats} "
        f"runs after {warmup} warmup runs; parameters and FLOPs of one image\n"
        f"{folder}: profile.txt, .md, .tex, .csv written"
    )


@torch.no_grad()
def layer_times(
    network: nn.Module, images: torch.Tensor, device: torch.device, warmup: int, repeats: int
) -> list[float]:
    """Return the mean milliseconds of each layer of `network.model` in eval mode.

    A GPU is synchronized before and after each layer, so the sum exceeds the time of a run.
    """
    network, images = network.to(device).eval(), images.to(device)
    times: dict[nn.Module, list[float]] = {layer: [] for layer in network.model}

    def add_time(layer: nn.Module, *_: object) -> None:
        times[layer].append(clock(device))

    hooks = [layer.register_forward_pre_hook(add_time) for layer in network.model]
    hooks += [layer.register_forward_hook(add_time) for layer in network.model]
    for _ in range(warmup + repeats):
        network(images)
    for hook in hooks:
        hook.remove()
    seconds = np.diff([values[2 * warmup :] for values in times.values()])[:, ::2]  # (layers, repeats)
    return (1000 * seconds.mean(1)).tolist()
