"""`yolo profile model=my-model.yaml`: parameters, operations and time of every layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ultralytics.cfg.values import DeviceName, OneOf, Range
from ultralytics.utils import LOGGER
from ultralytics.utils.tables import Column, Table

if TYPE_CHECKING:
    import torch

    from ultralytics.nn.summary import Inspection
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
    """Show what each layer costs, and write it to `project`/`name` as profile.txt, .md, .tex and .csv.

    Args:
        model: weights (.pt) or a model YAML.
        imgsz: side of the images in pixels.
        batch: images in one run.
        device: see `yolo cfg`.
        warmup: runs that are not timed.
        repeats: runs that are; the times are their means.
        sort: layer, parameters, flops or time; the costliest first.
        nc: number of classes in place of the model file's.
        modules: a folder of module files.
        project: folder of the results, `runs/profile` by default.
        name: folder in it, the model's name by default; numbered when taken.

    Raises:
        UserError: the model cannot be built, or fails at this size.
    """
    from ultralytics.nn.summary import inspect_model
    from ultralytics.tools.common import load_network, tool_dir
    from ultralytics.utils.checks import check_imgsz
    from ultralytics.utils.torch_utils import describe_device, select_device

    place = select_device(device)
    network = load_network(model, nc, modules)
    size = check_imgsz(imgsz, int(max(network.stride)))
    inspection = inspect_model(network, size)
    times = layer_times(network, imgsz=size, batch=batch, device=place, warmup=warmup, repeats=repeats)
    table = profile_table(inspection, times, sort)
    LOGGER.info(table.text())
    LOGGER.info(
        f"{inspection.info}\n{describe_device(place)}; times of a batch of {batch}, means of {repeats} runs after "
        f"{warmup} to warm up; parameters and operations are those of one image"
    )
    folder = tool_dir("profile", project, name, Path(model).stem)
    table.write(folder, "profile", f"Layers of {Path(model).stem} at {size} pixels.")
    LOGGER.info(f"{folder}: profile.txt, .md, .tex, .csv written")


def layer_times(
    network: DetectionModel, *, imgsz: int, device: torch.device, batch: int = 1, warmup: int = 5, repeats: int = 20
) -> list[float]:
    """Mean milliseconds of each layer of `network.model` in eval mode, in order.

    On a GPU each layer waits for the one before, so that the sum is more than a run without measuring takes.
    """
    import torch

    from ultralytics.utils.torch_utils import clock

    network = network.to(device).eval()
    seconds = [0.0] * len(network.model)
    starts: list[float] = []

    def before(_layer: object, _inputs: object) -> None:
        starts.append(clock(device))

    hooks = [layer.register_forward_pre_hook(before) for layer in network.model]
    for index, layer in enumerate(network.model):

        def after(_layer: object, _inputs: object, _output: object, index: int = index) -> None:
            seconds[index] += clock(device) - starts.pop()

        hooks.append(layer.register_forward_hook(after))
    images = torch.rand(batch, 3, imgsz, imgsz, device=device)
    try:
        with torch.no_grad():
            for _ in range(warmup):
                network(images)
            seconds[:] = [0.0] * len(seconds)
            for _ in range(repeats):
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [1000 * total / repeats for total in seconds]


def profile_table(inspection: Inspection, times: list[float], sort: str = "layer") -> Table:
    """A row for each layer and one for the sum. `sort` is a key of ORDERS."""
    from ultralytics.nn.summary import shape_text

    parameters = sum(row.parameters for row in inspection.rows)
    flops, total = sum(row.flops for row in inspection.rows), sum(times)
    rows = [
        (
            str(row.index), row.name or "", row.module, ", ".join(map(shape_text, row.outputs)), row.parameters,
            _percent(row.parameters, parameters), row.flops / 1e9, _percent(row.flops, flops), time,
            _percent(time, total),
        )
        for row, time in zip(inspection.rows, times, strict=True)
    ]  # fmt: skip
    if sort != "layer":
        rows.sort(key=lambda row: -row[ORDERS[sort]])
    return Table(COLUMNS, [*rows, ("sum", "", "", "", parameters, None, flops / 1e9, None, total, None)])


def _percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None
