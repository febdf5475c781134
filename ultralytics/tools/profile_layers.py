"""`yolo profile model=my-model.yaml`: parameters, FLOPs and time of every layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch

from ultralytics.cfg.values import DeviceName, OneOf, Range
from ultralytics.nn.summary import Inspection, inspect_model, shape_text
from ultralytics.tools.common import load_network, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.tables import Column, Table
from ultralytics.utils.torch_utils import clock, describe_device, select_device

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

ORDERS = {"layer": 0, "parameters": 4, "flops": 6, "time": 8}  # column of the table
COLUMNS = (
    Column("Layer"), Column("Name"), Column("Module"), Column("Output"), Column("Params", ",d"), Column("%", ".1f"),
    Column("GFLOPs (torch)", ".3f"), Column("%", ".1f"), Column("Time (ms)", ".3f"), Column("%", ".1f"),
)  # fmt: skip


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
        model: weights (.pt) or a model YAML.
        imgsz: side of the images in pixels.
        batch: images in one run.
        device: see `yolo cfg`.
        warmup: runs that are not timed.
        repeats: timed runs, of which the mean is shown.
        sort: layer, parameters, flops or time; the most expensive first.
        nc: number of classes in place of the model YAML's.
        modules: a folder with module files.
        project: folder of the results, `runs/profile` by default.
        name: folder in it, the model's name by default; numbered when taken.

    Raises:
        UserError: the model cannot be built, or fails at this size.
    """
    place = select_device(device)
    network = load_network(model, nc, modules)
    size = check_imgsz(imgsz, int(max(network.stride)))
    inspection = inspect_model(network, size)
    times = layer_times(network, imgsz=size, batch=batch, device=place, warmup=warmup, repeats=repeats)
    table = profile_table(inspection, times, sort)
    LOGGER.info(
        f"{table.text()}\n{inspection.info}\n{describe_device(place)}; times of a batch of {batch}, means of {repeats} "
        f"runs after {warmup} warmup runs; parameters and FLOPs of one image"
    )
    folder = tool_dir("profile", project, name, Path(model).stem)
    table.write(folder, "profile", f"Layers of {Path(model).stem} at {size} pixels.")
    LOGGER.info(f"{folder}: profile.txt, .md, .tex, .csv written")


def layer_times(
    network: DetectionModel, *, imgsz: int, device: torch.device, batch: int = 1, warmup: int = 5, repeats: int = 20
) -> list[float]:
    """Return the mean milliseconds of each layer of `network.model` in eval mode.

    A GPU is synchronized before and after each layer, so the sum exceeds the time of a run.
    """
    network = network.to(device).eval()
    starts: dict[Any, float] = {}
    seconds = dict.fromkeys(network.model, 0.0)

    def before(layer: Any, _inputs: Any) -> None:
        starts[layer] = clock(device)

    def after(layer: Any, _inputs: Any, _output: Any) -> None:
        seconds[layer] += clock(device) - starts[layer]

    hooks = [layer.register_forward_pre_hook(before) for layer in network.model]
    hooks += [layer.register_forward_hook(after) for layer in network.model]
    images = torch.rand(batch, 3, imgsz, imgsz, device=device)
    try:
        with torch.no_grad():
            for run in range(warmup + repeats):
                if run == warmup:
                    seconds = dict.fromkeys(network.model, 0.0)
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [1000 * total / repeats for total in seconds.values()]


def profile_table(inspection: Inspection, times: list[float], sort: str = "layer") -> Table:
    """Return a table with a row for each layer and one for the sum. `sort` is a key of ORDERS."""
    parameters = sum(row.parameters for row in inspection.rows)
    flops, total = sum(row.flops for row in inspection.rows), sum(times)

    def percent(part: float, whole: float) -> float | None:
        return 100 * part / whole if whole else None

    rows = [
        (
            str(row.index), row.name or "", row.module, ", ".join(map(shape_text, row.outputs)), row.parameters,
            percent(row.parameters, parameters), row.flops / 1e9, percent(row.flops, flops), time, percent(time, total),
        )
        for row, time in zip(inspection.rows, times, strict=True)
    ]  # fmt: skip
    if sort != "layer":
        rows.sort(key=lambda row: -row[ORDERS[sort]])
    return Table(COLUMNS, [*rows, ("sum", "", "", "", parameters, None, flops / 1e9, None, total, None)])
