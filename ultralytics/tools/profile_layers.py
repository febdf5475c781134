"""`yolo profile model=my-model.yaml`: parameters, FLOPs and time of every layer."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import nn

from ultralytics.cfg.values import DeviceName, OneOf, Range
from ultralytics.nn.summary import ORDERS, inspect_model, layer_table
from ultralytics.tools.common import load_network, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.torch_utils import clock, describe_device, select_device


def command(
    model: str,
    imgsz: Annotated[int, Range(32)] = 640,
    batch: Annotated[int, Range(1)] = 1,
    device: Annotated[str | int | list[int] | None, DeviceName()] = None,
    warmup: Annotated[int, Range(0)] = 5,
    repeats: Annotated[int, Range(1)] = 20,
    sort: Annotated[str, OneOf(*ORDERS)] = "layer",
    nc: Annotated[int | None, Range(1)] = None,
    modules: str | None = None,
    project: str | None = None,
    name: str | None = None,
) -> None:
    """Show the cost of each layer, and write it to `project`/`name` as profile.txt, .md, .tex and .csv.

    Args:
        batch, warmup, repeats: images in one run, runs that are not timed, and timed runs.
        sort: the most expensive first; `layer` is the order of the model.
        nc: number of classes in place of the model YAML's.
    """
    place = select_device(device)
    network = load_network(model, nc, modules)
    size = check_imgsz(imgsz, int(max(network.stride)))
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
