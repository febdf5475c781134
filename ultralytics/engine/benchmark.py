"""Speed of a network, and a benchmark of exports: accuracy, speed, file size and memory of each in one table."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.formats import get_format
from ultralytics.utils import LOGGER, PACKAGE_ROOT, setup_logging
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import run_dir, size_of
from ultralytics.utils.plotting import new_figure, save_figure
from ultralytics.utils.tables import Column, Table
from ultralytics.utils.torch_utils import autocast, clock, select_device

if TYPE_CHECKING:
    from torch import nn

PYTORCH = "pytorch"
PRECISIONS = {"float32": {}, "float16": {"half": True}, "int8": {"int8": True}}  # export options
COLUMNS = (
    Column("Format"), Column("Precision"), Column("Size (px)", "d"), Column("mAP50", ".3f"), Column("mAP50-95", ".3f"),
    Column("Median (ms)", ".1f"), Column("p95 (ms)", ".1f"), Column("Images/s", ".1f"), Column("File (MB)", ".1f"),
    Column("Memory (MB)", ".0f"), Column("Remark"),
)  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Timed runs of a network.

    Attributes:
        runs: milliseconds of each run.
        batch: images in one run.
        memory: bytes; on CUDA the peak of torch's allocations during the runs, on the CPU the peak of the process
            since its start; None if the system does not report it.
    """

    runs: tuple[float, ...]
    batch: int
    memory: int | None

    @property
    def mean(self) -> float:
        """Mean latency of a batch in milliseconds."""
        return statistics.fmean(self.runs)

    @property
    def std(self) -> float:
        """Sample standard deviation of the latency in milliseconds."""
        return statistics.stdev(self.runs)

    @property
    def fps(self) -> float:
        """Throughput in images per second, by the mean latency."""
        return 1000 * self.batch / self.mean

    @property
    def median(self) -> float:
        """Median latency of a batch in milliseconds."""
        return statistics.median(self.runs)

    def percentile(self, percent: float) -> float:
        """Return the smallest run in milliseconds that `percent` of the runs do not exceed."""
        return sorted(self.runs)[max(math.ceil(percent / 100 * len(self.runs)), 1) - 1]


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
    """Time a network on random images (batch, 3, imgsz, imgsz). It is moved to the device and set to eval mode.

    `dtype` is the type of mixed precision, None for float32. The device is synchronized after each run.
    """
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
    """Return the peak memory in bytes, see `Speed.memory`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    if sys.platform == "linux":  # getrusage would include the memory of the parent process before exec
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes except on macOS


@dataclass(frozen=True)
class Case:
    """One row of the benchmark. `precision` is a key of PRECISIONS."""

    format: str
    precision: str
    imgsz: int

    def __str__(self) -> str:
        return f"{self.format} {self.precision} {self.imgsz}"


@dataclass(frozen=True)
class Measurement:
    """Results of a case in the order of the columns; None if it failed. Milliseconds of a batch, megabytes."""

    map50: float | None = None
    map: float | None = None
    median: float | None = None
    p95: float | None = None
    fps: float | None = None
    file: float | None = None
    memory: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class BenchmarkSettings:
    """How cases are measured. `model_class` opens weights and exported models; `folder` gets the files."""

    model_class: type
    data: str
    folder: Path
    split: str = "val"
    batch: int = 1
    device: str | int | list[int] | None = None
    warmup: int = 10
    repeats: int = 50
    threads: int = 1


Rows = Sequence[tuple[Case, Measurement]]


def run_benchmark(
    model_class: type,
    weights: str,
    *,
    data: str | None = None,
    formats: str | Sequence[str] = "pytorch,torchscript,onnx,openvino",
    precisions: str | Sequence[str] = "float32,float16,int8",
    imgsz: int | Sequence[int] | None = None,
    project: str | None = None,
    name: str | None = None,
    **settings: Any,
) -> None:
    """Export weights in every format and precision, and measure each file in a new process; see `yolo benchmark`.

    `settings` are those of `BenchmarkSettings`. A failed export is a remark in its row.

    Raises:
        UserError: `weights` is no .pt file, or the data set is unknown.
    """
    checkpoint = model_class(weights).checkpoint
    if checkpoint is None:
        raise UserError(f"benchmark: {weights}: expected trained weights (.pt), got a model file or an exported model")
    trained = checkpoint.get("options") or {}
    data = data or trained.get("data")
    if data is None:
        raise UserError("benchmark: data= is missing, and the weights name no data set; for example data=my.yaml")
    sizes = imgsz or trained.get("imgsz") or 640
    formats, precisions = ([*v.split(",")] if isinstance(v, str) else v for v in (formats, precisions))
    cases = list(list_cases(formats, precisions, [sizes] if isinstance(sizes, int) else sizes))
    folder = run_dir(project or Path("runs", "benchmark"), name or "benchmark")
    plan = BenchmarkSettings(model_class, data, folder, threads=torch.get_num_threads(), **settings)
    rows: list[tuple[Case, Measurement]] = []
    for case in cases:
        LOGGER.info(f"benchmark {len(rows) + 1}/{len(cases)}: {case}")
        rows.append((case, measure_case(weights, case, plan)))
        table = write_report(rows, folder, weights)  # after each case, in case of an interruption
    LOGGER.info(
        f"{weights}, {data} ({plan.split}), batch {plan.batch}, {plan.threads} threads, {plan.warmup} warmup runs and "
        f"{plan.repeats} timed runs of the model alone; memory: peak of the process, including libraries\n"
        f"{table.text()}\nResults saved to {folder}"
    )


def list_cases(formats: Sequence[str], precisions: Sequence[str], sizes: Sequence[int]) -> Iterator[Case]:
    """Yield all combinations that the formats support; PyTorch itself is float32."""
    for size in sizes:
        for name in formats:
            for precision in precisions:
                options = PRECISIONS[precision]
                if all(name != PYTORCH and getattr(get_format(name), option) for option in options):
                    yield Case(name, precision, size)


def measure_case(weights: str, case: Case, plan: BenchmarkSettings) -> Measurement:
    """Export and measure in two new processes, so that the memory is that of the case; a failure is a remark."""
    try:
        file = weights if case.format == PYTORCH else call_in_process(export_case, weights, case, plan)
        return call_in_process(measure_file, file, case, plan)
    except UserError as error:
        LOGGER.warning(f"{case}: {error}")
        return Measurement(remark=str(error).splitlines()[0])


def export_case(weights: str, case: Case, plan: BenchmarkSettings) -> str:
    """Export a copy of the weights in the plan's folder, and return the exported file."""
    torch.set_num_threads(plan.threads)
    setup_logging(False)
    copy = plan.folder / "models" / str(case.imgsz) / Path(weights).name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, copy)
    try:
        return plan.model_class(copy, verbose=False).export(
            format=case.format, imgsz=case.imgsz, batch=plan.batch, data=plan.data, split=plan.split, verbose=False,
            device=plan.device if get_format(case.format).needs_gpu else None, **PRECISIONS[case.precision],
        )  # fmt: skip
    finally:
        copy.unlink()


def measure_file(file: str, case: Case, plan: BenchmarkSettings) -> Measurement:
    """Measure speed and memory, then accuracy, of weights or an exported model."""
    torch.set_num_threads(plan.threads)
    setup_logging(False)
    network = for_inference(plan.model_class(file, verbose=False).model)
    speed = measure_speed(
        network, imgsz=case.imgsz, device=select_device(plan.device), batch=plan.batch, warmup=plan.warmup,
        repeats=plan.repeats,
    )  # fmt: skip
    box = plan.model_class(file, verbose=False).val(
        data=plan.data, split=plan.split, imgsz=case.imgsz, batch=max(plan.batch, 8), device=plan.device, workers=0,
        plots=False, verbose=False, project=str(plan.folder), name="val", exist_ok=True,
    ).box  # fmt: skip
    memory = None if speed.memory is None else speed.memory / 1e6
    times = (speed.median, speed.percentile(95), speed.fps)
    return Measurement(box.map50, box.map, *times, size_of(Path(file)) / 1e6, memory)


def call_in_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a module-level function in a new Python process and return its result.

    Raises:
        UserError: the function raised it, or the process failed.
    """
    code = "import sys; from ultralytics.engine.benchmark import _call; _call(*sys.argv[1:])"
    paths = os.pathsep.join([str(PACKAGE_ROOT.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        call, answer = Path(folder) / "call.pkl", Path(folder) / "answer.pkl"
        call.write_bytes(pickle.dumps((function, args)))
        run = subprocess.run(
            [sys.executable, "-c", code, call, answer], env={**os.environ, "PYTHONPATH": paths}, capture_output=True,
            text=True,
        )  # fmt: skip
        if run.returncode or not answer.exists():
            last = (run.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"its process ended with code {run.returncode}: {last}")
        result = pickle.loads(answer.read_bytes())
    if isinstance(result, UserError):
        raise result
    return result


def _call(call: str, answer: str) -> None:
    """Run a pickled call in this process, and pickle its result or UserError."""
    function, args = pickle.loads(Path(call).read_bytes())
    try:
        result = function(*args)
    except UserError as error:
        result = UserError(str(error))
    Path(answer).write_bytes(pickle.dumps(result))


def write_report(rows: Rows, folder: Path, weights: str) -> Table:
    """Write benchmark.txt, .md, .tex and .csv, and benchmark.png (accuracy over latency), and return the table."""
    table = Table(COLUMNS, [(*astuple(case), *astuple(m)) for case, m in rows])
    table.write(folder, "benchmark", f"Exports of {Path(weights).name}")
    rows = [(case, m) for case, m in rows if m.median is not None and math.isfinite(m.map)]  # nan without labels
    if not rows:
        return table
    figure = new_figure(9, 5)
    axes = figure.subplots()
    markers = dict(zip(PRECISIONS, "os^", strict=True))
    colors = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(case.format for case, _ in rows))}
    labels: set[str] = set()
    for case, m in rows:
        label = f"{case.format} {case.precision}"
        style = {"color": colors[case.format], "marker": markers[case.precision], "s": 60, "alpha": 0.8}
        axes.scatter(m.median, m.map, label=None if label in labels else label, **style)
        labels.add(label)
        if len({case.imgsz for case, _ in rows}) > 1:
            axes.annotate(f"  {case.imgsz}", (m.median, m.map), fontsize=8, va="bottom")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    axes.set(xlabel="median latency of a batch (ms)", ylabel="mAP50-95")
    best = max(m.map for _, m in rows)
    axes.set(xlim=(0, 1.1 * max(m.median for _, m in rows)), ylim=(0, max(1.3 * best, 0.05)))  # from 0
    axes.grid(alpha=0.3)
    save_figure(figure, folder / "benchmark.png")
    return table
