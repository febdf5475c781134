"""`yolo fps model=best.pt`: speed and memory of a network alone. `yolo benchmark model=best.pt`: of all its exports."""

from functools import partial
from typing import Annotated

import numpy as np
import torch

from ultralytics.cfg.values import DeviceName, Range
from ultralytics.models.benchmark import measure_speed, peak_memory, run_benchmark
from ultralytics.models.rtdetr.model import RTDETR
from ultralytics.nn.accelerate import for_inference
from ultralytics.tools.common import load_network
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import DeviceError
from ultralytics.utils.tables import Column, Table
from ultralytics.utils.torch_utils import describe_device, half_dtype, select_device

COLUMNS = (
    Column("Model"), Column("Size (px)", "d"), Column("Batch", "d"), Column("Precision"),
    Column("Latency (ms)", ".2f"), Column("± (ms)", ".2f"), Column("Median (ms)", ".2f"), Column("FPS", ".1f"),
    Column("Memory (MB)", ".0f"),
)  # fmt: skip

benchmark = partial(run_benchmark, RTDETR)


def command(
    model: str,
    imgsz: Annotated[int, Range(32)] = 640,
    batch: Annotated[int, Range(1)] = 1,
    device: Annotated[str | int | list[int] | None, DeviceName()] = None,
    warmup: Annotated[int, Range(0)] = 20,
    repeats: Annotated[int, Range(2)] = 100,
    half: bool = False,
    accelerate: bool = True,
    fuse: bool = True,
    nc: Annotated[int | None, Range(1)] = None,
    modules: str | None = None,
) -> None:
    """Measure the speed of a network, and show it as a table.

    Args:
        model: weights (.pt), an exported model, or a model YAML (random weights take the same time).
        batch, warmup, repeats: images in one run, runs that are not timed, and timed runs.
        half: 16-bit mixed precision, on CUDA only.
        accelerate: rewrite the network for inference, as predict does (see `nn.accelerate`).
        fuse: with accelerate=False, fold batch norms into convolutions only.
        nc: number of classes in place of the model YAML's.
    """
    place = select_device(device)
    dtype = half_dtype(place) if half else None
    if half and dtype is None:
        raise DeviceError(f"half=True: expected a CUDA device, got {place}; leave half out, or choose a GPU: device=0")
    network = load_network(model, nc, modules, exported=True)
    size = check_imgsz(imgsz, int(max(network.stride)))
    if accelerate:
        network = for_inference(network)
    elif fuse and not network.fused:  # exported models are fused
        network.fuse()
    times = measure_speed(network, imgsz=size, batch=batch, device=place, warmup=warmup, repeats=repeats, dtype=dtype)
    precision, mean = str(dtype or torch.float32).removeprefix("torch."), times.mean()
    speed = (mean, times.std(ddof=1), np.median(times), 1000 * batch / mean)
    table = Table(COLUMNS, [(model, size, batch, precision, *map(float, speed), peak_memory(place))])
    LOGGER.info(
        f"{describe_device(place)}; {warmup} warmup and {repeats} timed runs, {'' if network.fused else 'not '}fused; "
        f"memory: {'peak of torch on the GPU' if place.type == 'cuda' else 'peak of the whole process'}\n{table.text()}"
    )
