"""Speed of a network, and a benchmark of exports: accuracy, speed, file size and memory of each in one table."""

import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import nn

from ultralytics.cfg.values import DeviceName, OneOf, Range, SomeOf
from ultralytics.engine.trust import recorded_data
from ultralytics.nn.accelerate import FOLDED, for_inference
from ultralytics.nn.formats import get_format
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import first_line, run_dir, size_of
from ultralytics.utils.plotting import new_figure, save_figure
from ultralytics.utils.tables import Cell, Column, Table
from ultralytics.utils.torch_utils import autocast, clock, select_device

PYTORCH = "pytorch"
TURN = 5  # timed runs of a network before the next one has its turn
PRECISIONS = {"float32": None, "float16": "half", "int8": "int8"}  # option of the export
COLUMNS = (
    Column("Format"), Column("Precision"), Column("Size (px)", "d"), Column("mAP50", ".3f"), Column("mAP50-95", ".3f"),
    Column("Median (ms)", ".1f"), Column("p95 (ms)", ".1f"), Column("Images/s", ".1f"), Column("File (MB)", ".1f"),
    Column("Memory (MB)", ".0f"), Column("Remark"),
)  # fmt: skip
CHILD = "import json, pickle, sys; call, *args = pickle.load(sys.stdin.buffer); print(json.dumps(call(*args)))"


def measure_speed(
    network: nn.Module,
    *,
    imgsz: int,
    device: torch.device,
    batch: int = 1,
    warmup: int = 20,
    repeats: int = 100,
    dtype: torch.dtype | None = None,
) -> np.ndarray:
    """Return the milliseconds of each of `repeats` runs on random images (batch, 3, imgsz, imgsz).

    The network is moved to the device and set to eval mode. `dtype` is the type of mixed precision, None for float32.
    """
    network = network.to(device).eval()
    images = torch.rand(batch, 3, imgsz, imgsz, device=device)
    times = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.no_grad(), autocast(device, dtype):
        for _ in range(warmup):
            network(images)
        for _ in range(repeats):
            start = clock(device)
            network(images)
            times.append(1000 * (clock(device) - start))
    return np.array(times)


def peak_memory(device: torch.device) -> float | None:
    """Return the peak in MB: on CUDA of torch's allocations, on the CPU of this process (Linux only), else None."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if device.type != "cpu" or sys.platform != "linux":
        return None
    status = Path("/proc/self/status").read_text()  # getrusage would include the memory of the parent before exec
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


@dataclass(frozen=True)
class Speed:
    """Median latency of a batch in milliseconds, in the two forms of every network, and peak memory.

    Attributes:
        folded: with batch norms folded into convolutions, which every network can have.
        spread: half the distance of the quartiles of `folded`.
        optimized: with all rewrites of `nn.accelerate` that apply, which know stock layers only; None for a network
            that cannot be rewritten, such as an exported one.
        rewrites: number of rewritten layers beyond the folding.
        memory: peak in MB of the folded form on a GPU, else None.
    """

    folded: float
    spread: float
    optimized: float | None
    rewrites: int
    memory: float | None


def measure_speeds(
    networks: Mapping[str, nn.Module], *, device: torch.device, warmup: int = 3, repeats: int = 50, **given: Any
) -> dict[str, Speed]:
    """Time all networks in both forms in turns of 5 runs, so that a change of the machine's speed meets all alike.

    The networks, by name, are fused in place. `given`: other arguments of `measure_speed`.
    """
    forms: dict[tuple[str, bool], nn.Module] = {}  # by name, and whether it is optimized
    rewrites: dict[str, int] = {}
    for name, network in networks.items():
        fast = for_inference(network.to(device).eval(), device)
        applied = Counter(getattr(fast, "rewrites", {}))
        rewrites[name] = applied.total() - applied[FOLDED]
        forms[name, False] = network if network.fused else network.fuse()
        if fast is not network:
            forms[name, True] = fast
    times: dict[tuple[str, bool], list[float]] = {form: [] for form in forms}
    peaks: dict[str, float] = {}
    for done in range(0, repeats, TURN):
        for (name, optimized), network in forms.items():
            given |= {"warmup": 1 if done else warmup, "repeats": min(TURN, repeats - done)}
            times[name, optimized] += measure_speed(network, device=device, **given).tolist()
            if not optimized and device.type == "cuda":
                peaks[name] = max(peaks.get(name, 0.0), peak_memory(device) or 0.0)
    speeds = {}
    for name in networks:
        low, middle, high = map(float, np.percentile(times[name, False], (25, 50, 75)))
        fast = float(np.median(times[name, True])) if (name, True) in times else None
        speeds[name] = Speed(middle, (high - low) / 2, fast, rewrites[name], peaks.get(name))
    return speeds


def run_benchmark(
    model_class: type,
    model: str,
    data: str | None = None,
    formats: str | list[str] = "pytorch,torchscript,onnx,openvino",
    precisions: Annotated[str | list[str], SomeOf(*PRECISIONS)] = "float32,float16,int8",
    imgsz: Annotated[int | list[int] | None, Range(32)] = None,
    batch: Annotated[int, Range(1)] = 1,
    device: Annotated[str | int | list[int] | None, DeviceName()] = None,
    warmup: Annotated[int, Range(0)] = 10,
    repeats: Annotated[int, Range(2)] = 50,
    split: Annotated[str, OneOf("train", "val", "test")] = "val",
    project: str | None = None,
    name: str | None = None,
    modules: str | None = None,
    trust: bool = False,
) -> None:
    """Export weights in every format and precision, and measure each file in a new process.

    Args:
        model_class: class that opens weights and exported models.
        model: weights (.pt).
        data: data set for validation and int8 calibration; by default that of the training.
        formats: `pytorch`, and names in `export_formats()`, comma-separated.
        precisions: float32, float16 or int8, comma-separated; unsupported combinations are skipped.
        imgsz: one or several sizes in pixels; by default that of the training.
        batch, warmup, repeats: images in one run, runs that are not timed, and timed runs.
        project, name: folder of the results, `runs/benchmark/benchmark` by default; numbered when taken.
        modules, trust: folder with module files that the weights need, or follow what the weights record.

    Raises:
        UserError: the weights or the data set cannot be used. A failed export is a remark in its row.
    """
    checkpoint = model_class(model).checkpoint
    if checkpoint is None:
        raise UserError(f"benchmark: {model}: expected trained weights (.pt), got a model file or an exported model")
    trained = checkpoint.get("options") or {}
    if data is None and trained.get("data") is None:
        raise UserError("benchmark: data= is missing, and the weights name no data set; for example data=my.yaml")
    data = data or (trained["data"] if trust else recorded_data(trained["data"], (split,), model))
    sizes = imgsz or trained.get("imgsz") or 640
    formats, precisions = (v.split(",") if isinstance(v, str) else v for v in (formats, precisions))
    cases = [
        (kind, precision, size)
        for size in ([sizes] if isinstance(sizes, int) else sizes)
        for kind in formats
        for precision in precisions
        if not PRECISIONS[precision] or (kind != PYTORCH and getattr(get_format(kind), PRECISIONS[precision]))
    ]
    folder = run_dir(project or "runs/benchmark", name or "benchmark")
    settings = {"data": data, "split": split, "batch": batch, "device": device, "warmup": warmup, "repeats": repeats}
    settings["open"] = {"modules": modules, "trust": trust}
    rows: list[Sequence[Cell]] = []
    for case in cases:
        LOGGER.info(f"benchmark {len(rows) + 1}/{len(cases)}: {' '.join(map(str, case))}")
        rows.append((*case, *measure_case(model_class, model, *case, folder, settings)))
        table = write_report(rows, folder, model)  # after each case, in case of an interruption
    LOGGER.info(
        f"{model}, {data} ({split}), batch {batch}, {torch.get_num_threads()} threads, {warmup} warmup runs and "
        f"{repeats} timed runs of the model alone; memory: peak of the process, including libraries\n"
        f"{table.text()}\nResults saved to {folder}"
    )


def measure_case(
    model_class: type, weights: str, kind: str, precision: str, imgsz: int, folder: Path, settings: dict[str, Any]
) -> list[Cell]:
    """Export a copy of the weights in the folder, measure it, and return the cells of its row after the size."""
    file = folder / "models" / str(imgsz) / Path(weights).name
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, file)
    try:
        if kind != PYTORCH:
            options = {key: settings[key] for key in ("data", "split", "batch")}
            options["device"] = settings["device"] if get_format(kind).needs_gpu else None
            if PRECISIONS[precision]:
                options[PRECISIONS[precision]] = True
            file = model_class(file, **settings["open"]).export(format=kind, imgsz=imgsz, **options)
        return run_in_process(measure_file, model_class, str(file), imgsz, folder, torch.get_num_threads(), settings)
    except Exception as error:  # exporters and runtimes raise anything; the other rows are measured all the same
        LOGGER.warning(f"{kind} {precision} {imgsz}: {error}")
        return [None] * 7 + [first_line(error)]


def run_in_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a new process, whose peak memory is that of the call alone; return its result, plain data."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run(
        [sys.executable, "-c", CHILD], input=pickle.dumps((function, *args)), capture_output=True, env=environment
    )
    if child.returncode:
        last = (child.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise UserError(f"its process ended with code {child.returncode}: {last}")
    return json.loads(child.stdout.splitlines()[-1])


def measure_file(
    model_class: type, file: str, imgsz: int, folder: Path, threads: int, settings: dict[str, Any]
) -> list[Cell]:
    """Measure speed and memory, then accuracy, of weights or an exported model."""
    torch.set_num_threads(threads)
    device, batch = select_device(settings["device"]), settings["batch"]
    runs = {key: settings[key] for key in ("batch", "warmup", "repeats")}
    network = model_class(file, verbose=False, **settings["open"]).model
    times = measure_speed(for_inference(network), imgsz=imgsz, device=device, **runs)
    memory = peak_memory(device)
    box = model_class(file, verbose=False, **settings["open"]).val(
        data=settings["data"], split=settings["split"], imgsz=imgsz, batch=max(batch, 8), device=settings["device"],
        workers=0, plots=False, verbose=False, project=str(folder), name="val", exist_ok=True,
        rect=False,  # as exported files run images of one size
    ).box  # fmt: skip
    speed = [float(np.median(times)), float(np.percentile(times, 95)), 1000 * batch / float(times.mean())]
    return [float(box.map50), float(box.map), *speed, size_of(Path(file)) / 1e6, memory, ""]


def write_report(rows: Sequence[Sequence[Cell]], folder: Path, weights: str) -> Table:
    """Write benchmark.txt, .md, .tex and .csv, and benchmark.png (accuracy over latency), and return the table."""
    table = Table(COLUMNS, rows)
    table.write(folder, "benchmark", f"Exports of {Path(weights).name}")
    points = [(*row[:3], row[5], row[4]) for row in rows if row[4] is not None and math.isfinite(row[4])]
    if not points:  # all failed, or a data set without labels
        return table
    axes = new_figure(9, 5).subplots()
    formats = list(dict.fromkeys(kind for kind, *_ in points))
    markers = dict(zip(PRECISIONS, "os^", strict=True))
    for kind, precision, size, latency, accuracy in points:
        label = f"{kind} {precision} {size}"
        axes.scatter(latency, accuracy, s=60, c=f"C{formats.index(kind)}", marker=markers[precision], label=label)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    axes.set(xlabel="median latency of a batch (ms)", ylabel="mAP50-95", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    save_figure(axes.figure, folder / "benchmark.png")
    return table
