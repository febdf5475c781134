"""`yolo benchmark model=best.pt data=my.yaml`: accuracy, speed, size and memory of every export, in one table."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from ultralytics.cfg.values import DeviceName, OneOf, Range, SomeOf
from ultralytics.utils import LOGGER, PACKAGE_ROOT, setup_logging
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import size_of
from ultralytics.utils.plotting import new_figure, save_figure
from ultralytics.utils.tables import Column, Table

PYTORCH = "pytorch"
PRECISIONS = {"float32": {}, "float16": {"half": True}, "int8": {"int8": True}}
COLUMNS = (
    Column("Format"), Column("Precision"), Column("Size (px)", "d"), Column("mAP50", ".3f"), Column("mAP50-95", ".3f"),
    Column("Median (ms)", ".1f"), Column("p95 (ms)", ".1f"), Column("Images/s", ".1f"), Column("File (MB)", ".1f"),
    Column("Memory (MB)", ".0f"), Column("Remark"),
)  # fmt: skip
MEGABYTE = 1e6


@dataclass(frozen=True)
class Case:
    """What a row of the table measures. `precision` is a key of PRECISIONS."""

    format: str
    precision: str
    imgsz: int

    def __str__(self) -> str:
        return f"{self.format} {self.precision} {self.imgsz}"


@dataclass(frozen=True)
class Measured:
    """What was measured of a case; None for what could not be. Milliseconds are of a batch, bytes of the process."""

    map50: float | None = None
    map: float | None = None
    median: float | None = None
    p95: float | None = None
    images_a_second: float | None = None
    file: int | None = None
    memory: int | None = None
    remark: str = ""


@dataclass(frozen=True)
class Plan:
    """How each case is measured."""

    data: str
    batch: int
    warmup: int
    repeats: int
    device: str | int | list[int] | None
    threads: int
    split: str = "val"


def command(
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
) -> None:
    """Export in every format and precision and measure each file in a process of its own.

    Args:
        model: weights (.pt).
        data: the data set to validate on, and to calibrate int8 with; by default that of the training.
        formats: some of pytorch, torchscript, onnx, openvino, engine, safetensors, with commas.
        precisions: some of float32, float16, int8; a format without one is left out.
        imgsz: a size or several in pixels; by default that of the training.
        batch: images at a time.
        device: see `yolo cfg`.
        warmup, repeats: runs that are not timed, and that are.
        split: of the data set.
        project, name: where the table goes, runs/benchmark/benchmark unless given.

    Raises:
        UserError: the weights or the data set cannot be used. What goes wrong with one export is a remark in its row.
    """
    import torch

    from ultralytics.models.rtdetr.model import RTDETR
    from ultralytics.tools.common import tool_dir

    detector = RTDETR(model)
    if detector.checkpoint is None:
        raise UserError(f"benchmark: {model}: expected weights (.pt); a model file has nothing to be accurate with")
    trained = detector.checkpoint.get("options") or {}
    data = data or trained.get("data")
    if data is None:
        raise UserError("benchmark: which data set? Write data=my.yaml; the weights do not say what they learned from")
    sizes = imgsz or trained.get("imgsz") or 640
    plan = Plan(data, batch, warmup, repeats, device, torch.get_num_threads(), split)
    cases = list(cases_of(_listed(formats), _listed(precisions), sizes if isinstance(sizes, list) else [sizes]))
    folder = tool_dir("benchmark", project, name, "benchmark")
    rows: list[tuple[Case, Measured]] = []
    for case in cases:
        LOGGER.info(f"benchmark {len(rows) + 1}/{len(cases)}: {case}")
        rows.append((case, measure_apart(model, case, plan, folder)))
        write_report(rows, folder, model)  # so far, should the rest not come
    LOGGER.info(
        f"{model}, {data} ({split}), batch {batch}, {plan.threads} threads, {warmup} runs to warm up and {repeats} "
        f"timed, of the model alone; memory is the most that the process has held, its libraries included\n"
        f"{table_of(rows).text()}\nResults saved to {folder}"
    )


def cases_of(formats: Sequence[str], precisions: Sequence[str], sizes: Sequence[int]) -> Iterator[Case]:
    """Every combination that exists; PyTorch on its own is float32."""
    from ultralytics.nn.formats import get_format

    for size in sizes:
        for kind in formats:
            for precision in precisions:
                needs = {"float16": "half", "int8": "int8"}.get(precision)
                exists = needs is None or (kind != PYTORCH and getattr(get_format(kind), needs))
                if exists:
                    yield Case(kind, precision, size)


def measure_apart(model: str, case: Case, plan: Plan, folder: Path) -> Measured:
    """Export and measure, each in a new process, so that memory is that of the case; a failure becomes the remark."""
    try:
        file = _in_new_process("export_case", model, case, plan, folder)
        return Measured(**_in_new_process("measure", file, case, plan, folder))
    except UserError as error:
        LOGGER.warning(f"{case}: {error}")
        return Measured(remark=str(error).splitlines()[0])


def _in_new_process(task: str, file: str, case: Case, plan: Plan, folder: Path) -> Any:
    """What a function of this file returns in a process of its own. Raises UserError, also where the process dies."""
    given = {"task": task, "file": file, "case": asdict(case), "plan": asdict(plan), "folder": str(folder)}
    paths = os.pathsep.join([str(PACKAGE_ROOT.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        command = [sys.executable, "-m", "ultralytics.engine.benchmark", json.dumps(given), str(answer)]
        run = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
        if run.returncode or not answer.exists():
            last = (run.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"its process ended with code {run.returncode}: {last}")
        found = json.loads(answer.read_text())
    if "error" in found:
        raise UserError(found["error"])
    return found["result"]


def _answer(given: str, answer: str) -> None:
    """The new process's part."""
    said = json.loads(given)
    case, plan = Case(**said["case"]), Plan(**said["plan"])
    task = {"export_case": export_case, "measure": measure}[said["task"]]
    try:
        result = task(said["file"], case, plan, Path(said["folder"]))
        found = {"result": asdict(result) if isinstance(result, Measured) else result}
    except UserError as error:
        found = {"error": str(error)}
    Path(answer).write_text(json.dumps(found))


def export_case(model: str, case: Case, plan: Plan, folder: Path) -> str:
    """The file of a case, in `folder`; of PyTorch the weights themselves. Runs in a process of its own."""
    import shutil

    import torch

    from ultralytics.models.rtdetr.model import RTDETR
    from ultralytics.nn.formats import get_format

    if case.format == PYTORCH:
        return model
    torch.set_num_threads(plan.threads)
    setup_logging(False)
    own = folder / "models" / str(case.imgsz) / Path(model).name
    own.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(model, own)
    try:
        device = plan.device if get_format(case.format).needs_gpu else None
        options = {"data": plan.data, "split": plan.split, "device": device, **PRECISIONS[case.precision]}
        return RTDETR(own, verbose=False).export(
            format=case.format, imgsz=case.imgsz, batch=plan.batch, verbose=False, **options
        )
    finally:
        own.unlink()


def measure(file: str, case: Case, plan: Plan, folder: Path) -> Measured:
    """Speed and memory, then accuracy, of an exported file or of weights. Runs in a process of its own."""
    import torch

    from ultralytics.models.rtdetr.model import RTDETR
    from ultralytics.tools.fps import measure_speed
    from ultralytics.utils.torch_utils import select_device

    torch.set_num_threads(plan.threads)
    setup_logging(False)
    detector = RTDETR(file, verbose=False)
    if not detector.is_exported:
        detector.fuse()
    speed = measure_speed(
        detector.model, imgsz=case.imgsz, device=select_device(plan.device), batch=plan.batch, warmup=plan.warmup,
        repeats=plan.repeats,
    )  # fmt: skip
    metrics = RTDETR(file, verbose=False).val(
        data=plan.data, split=plan.split, imgsz=case.imgsz, batch=max(plan.batch, 8), device=plan.device, workers=0,
        plots=False, verbose=False, project=str(folder), name="val", exist_ok=True,
    )  # fmt: skip
    return Measured(
        metrics.box.map50, metrics.box.map, speed.median, percentile(speed.runs, 0.95), speed.fps, size_of(Path(file)),
        speed.memory,
    )  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def table_of(rows: Sequence[tuple[Case, Measured]]) -> Table:
    """The table of all cases."""

    def megabytes(value: int | None) -> float | None:
        return None if value is None else value / MEGABYTE

    return Table(
        COLUMNS,
        [
            (case.format, case.precision, case.imgsz, m.map50, m.map, m.median, m.p95, m.images_a_second,
             megabytes(m.file), megabytes(m.memory), m.remark)
            for case, m in rows
        ],
    )  # fmt: skip


def write_report(rows: Sequence[tuple[Case, Measured]], folder: Path, model: str) -> None:
    """benchmark.txt, .md, .tex and .csv, and benchmark.png: accuracy over the median latency."""
    table_of(rows).write(folder, "benchmark", f"Exports of {Path(model).name}")
    done = [(case, m) for case, m in rows if m.median is not None and math.isfinite(m.map)]  # no labels: no number
    if done:
        _draw(done, folder / "benchmark.png")


def _draw(rows: Sequence[tuple[Case, Measured]], file: Path) -> None:
    figure = new_figure(9, 5)
    axes = figure.subplots()
    markers = dict(zip(PRECISIONS, "os^", strict=True))
    colours: dict[str, Any] = {}
    several = len({case.imgsz for case, _ in rows}) > 1
    for case, m in rows:
        colour = colours.setdefault(case.format, f"C{len(colours)}")
        name = f"{case.format} {case.precision}"
        known = axes.get_legend_handles_labels()[1]
        label = None if name in known else name
        axes.scatter(m.median, m.map, color=colour, marker=markers[case.precision], s=60, alpha=0.8, label=label)
        if several:
            axes.annotate(f"  {case.imgsz}", (m.median, m.map), fontsize=8, va="bottom")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)  # names beside the marks cover each other
    longest, best = max(m.median for _, m in rows), max(m.map for _, m in rows)
    axes.set(xlabel="median latency of a batch (ms)", ylabel="mAP50-95")
    axes.set(xlim=(0, 1.1 * longest), ylim=(0, max(1.3 * best, 0.05)))  # from 0: small differences look small
    axes.grid(alpha=0.3)
    save_figure(figure, file)


def _listed(value: str | list[str]) -> list[str]:
    return value.split(",") if isinstance(value, str) else value


if __name__ == "__main__":
    _answer(*sys.argv[1:])
