"""`yolo fps model=best.pt`: latency, images a second and memory of the network alone, without loading of images."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ultralytics.cfg.values import DeviceName, Range
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DeviceError
from ultralytics.utils.tables import Column, Table

if TYPE_CHECKING:
    import torch
    from torch import nn

COLUMNS = (
    Column("Model"), Column("Size (px)", "d"), Column("Batch", "d"), Column("Precision"),
    Column("Latency (ms)", ".2f"), Column("± (ms)", ".2f"), Column("Median (ms)", ".2f"), Column("FPS", ".1f"),
    Column("Memory (MB)", ".0f"),
)  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Milliseconds of each timed run of a batch, and the memory.

    Attributes:
        runs: milliseconds of the runs, in order.
        batch: images in one run.
        memory: bytes; on CUDA the most that torch had allocated during the runs, on the CPU the most the whole process
            has ever held; None where the system does not tell.
    """

    runs: tuple[float, ...]
    batch: int
    memory: int | None

    @property
    def mean(self) -> float:
        """Milliseconds of a batch."""
        return sum(self.runs) / len(self.runs)

    @property
    def std(self) -> float:
        """Standard deviation of the runs (of the sample), in milliseconds."""
        return (sum((run - self.mean) ** 2 for run in self.runs) / (len(self.runs) - 1)) ** 0.5

    @property
    def median(self) -> float:
        """Milliseconds of the run in the middle: what an interruption does not change."""
        ordered, middle = sorted(self.runs), len(self.runs) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

    @property
    def fps(self) -> float:
        """Images a second, by the mean."""
        return 1000 * self.batch / self.mean


def command(
    model: str,
    imgsz: Annotated[int, Range(32)] = 640,
    batch: Annotated[int, Range(1)] = 1,
    device: Annotated[str | int | list[int] | None, DeviceName()] = None,
    warmup: Annotated[int, Range(0)] = 20,
    repeats: Annotated[int, Range(2)] = 100,
    half: bool = False,
    fuse: bool = True,
    nc: Annotated[int | None, Range(1)] = None,
    modules: str | None = None,
) -> None:
    """Measure how fast a network is, and show the result as a table.

    Args:
        model: weights (.pt), an exported model, or a model YAML, whose random weights take as long.
        imgsz: side of the images in pixels.
        batch: images in one run.
        device: see `yolo cfg`.
        warmup: runs that are not timed.
        repeats: runs that are.
        half: 16-bit mixed precision, on CUDA only.
        fuse: fold the normalisations into the convolutions first, as for deployment.
        nc: number of classes in place of the model file's.
        modules: a folder of module files.

    Raises:
        UserError: the model cannot be built, the device is not there or has no half precision.
    """
    from ultralytics.tools.common import load_network
    from ultralytics.utils.checks import check_imgsz
    from ultralytics.utils.torch_utils import describe_device, half_dtype, select_device

    place = select_device(device)
    dtype = half_dtype(place) if half else None
    if half and dtype is None:
        raise DeviceError(f"half=True: expected a CUDA device, got {place}; leave half out, or name a GPU: device=0")
    network = load_network(model, nc, modules, exported=True)
    size = check_imgsz(imgsz, int(max(network.stride)))
    if fuse and not network.fused:  # an exported model is
        network.fuse()
    speed = measure_speed(network, imgsz=size, batch=batch, device=place, warmup=warmup, repeats=repeats, dtype=dtype)
    precision = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    memory = None if speed.memory is None else speed.memory / 1e6
    row = (model, size, batch, precision, speed.mean, speed.std, speed.median, speed.fps, memory)
    LOGGER.info(
        f"{describe_device(place)}; {warmup} runs to warm up, {repeats} timed, {'' if network.fused else 'not '}fused; "
        f"memory: {'peak of torch on the GPU' if place.type == 'cuda' else 'peak of the whole process'}"
    )
    LOGGER.info(Table(COLUMNS, [row]).text())


def measure_speed(
    network: nn.Module,
    *,
    imgsz: int,
    device: torch.device,
    batch: int = 1,
    warmup: int = 20,
    repeats: int = 100,
    dtype: torch.dtype | None = None,
) -> Speed:
    """Time the network on random images (batch, 3, imgsz, imgsz); it is moved to the device and put in eval mode.

    `dtype` is that of mixed precision, None for float32. Each run waits for the one before.
    """
    import torch

    from ultralytics.utils.torch_utils import autocast, clock

    network = network.to(device).eval()
    images = torch.rand(batch, 3, imgsz, imgsz, device=device)
    runs = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.no_grad(), autocast(device, dtype):
        for _ in range(warmup):
            network(images)
        for _ in range(repeats):
            start = clock(device)
            network(images)
            runs.append(1000 * (clock(device) - start))
    return Speed(tuple(runs), batch, peak_memory(device))


def peak_memory(device: torch.device) -> int | None:
    """Bytes: see `Speed.memory`."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    if sys.platform == "linux":  # not of getrusage(2), which also counts what the process that started this one had
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes, except on macOS
