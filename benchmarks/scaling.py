"""How time and memory grow: latency over image side, batch and threads, a training step over boxes.

    python benchmarks/scaling.py --out runs/scaling
    python benchmarks/scaling.py --sizes 320 640 --batches 1 2 4 --boxes 0 100 --out runs/try

The network is m0, accelerated. All settings of a table take turns. Sides that are multiples
of 56 need no padding of the first stage's windows, multiples of 224 none at all: beside the time of an image stands by
how much windows exceed the maps. Memory is what a process adds to itself by three calls, each setting in its own.

Written to --out: scaling.md, scaling.json and scaling.png.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from interleave import Worker, in_turns, serve, timed
from training import make_step, random_batch

MODEL = "rtdetr-efficientvit-m0.yaml"
SIZES = (160, 224, 256, 320, 416, 448, 480, 512, 640, 672, 704, 768, 864, 896, 928, 1024, 1088, 1120, 1152, 1280)
WINDOW, STAGES = 7, (8, 16, 32)  # of the backbone's attention: side, strides of the maps


def main() -> None:
    args = parse_arguments()
    if args.serve:
        serve(prepare_memory)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    # Memory first: a process takes over the peak of the one that starts it, which has imported nothing yet.
    images = [(1, side, args.threads) for side in args.sizes]
    batches = [(batch, args.batch_size, args.threads) for batch in args.batches]
    memory = {setting: peak(setting, args) for setting in dict.fromkeys([*images, *batches])}
    threads = [(1, side, n) for side in (320, 640) for n in range(1, args.threads + 1)]
    tables = {
        "Image side": [row(s, t, memory) for s, t in latencies(images, args).items()],
        f"Batch, {args.batch_size} px": [row(s, t, memory) for s, t in latencies(batches, args).items()],
        "Threads": [row(s, t, {}) for s, t in latencies(threads, args).items()],
        f"Boxes, a training step of {args.step_batch} x {args.step_size} px": steps(args),
    }
    (args.out / "scaling.json").write_text(json.dumps(tables, indent=1))
    text = "\n".join(f"### {title}\n\n{markdown(rows)}\n" for title, rows in tables.items())
    (args.out / "scaling.md").write_text(text)
    draw(tables, args.out / "scaling.png")
    print(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="sides of an image, multiples of 32")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 2, 4, 8, 16, 32))
    parser.add_argument("--batch-size", type=int, default=320, help="side of the images of --batches")
    parser.add_argument("--boxes", type=int, nargs="+", default=(0, 1, 10, 30, 100, 200, 300), help="of each image")
    parser.add_argument("--step-batch", type=int, default=4)
    parser.add_argument("--step-size", type=int, default=320)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# Measuring ------------------------------------------------------------------------------------------------------------


def latencies(settings: list[tuple[int, int, int]], args: argparse.Namespace) -> dict[tuple, list[float]]:
    """Seconds of each (batch, side, threads), in turns."""
    import torch
    from plain import both

    from ultralytics.nn.accelerate import for_inference

    network = for_inference(both("m0")[0])

    def run(x: torch.Tensor) -> None:
        with torch.no_grad():
            network(x)

    def side(batch: int, pixels: int, threads: int) -> Callable[[], float]:
        x = torch.rand(batch, 3, pixels, pixels)

        def measured() -> float:
            torch.set_num_threads(threads)
            run(x)  # after another size: its buffers and primitives are this one's again
            return timed(partial(run, x))()

        return measured

    return in_turns({setting: side(*setting) for setting in settings}, args.repeats)


def steps(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of a training step over the number of boxes."""
    import torch
    from plain import both

    torch.set_num_threads(args.threads)
    step = make_step("ours", both("m0")[0])
    batches = {boxes: random_batch(args.step_batch, args.step_size, boxes) for boxes in args.boxes}
    times = in_turns({boxes: timed(partial(step, batch)) for boxes, batch in batches.items()}, args.repeats)
    return [{"boxes": boxes, **milliseconds(t)} for boxes, t in times.items()]


def milliseconds(seconds: list[float]) -> dict[str, float]:
    return {"minimum, ms": 1000 * min(seconds), "median, ms": 1000 * statistics.median(seconds)}


def row(setting: tuple[int, int, int], seconds: list[float], memory: dict) -> dict[str, Any]:
    batch, side, threads = setting
    found = {"batch": batch, "side": side, "threads": threads, **milliseconds(seconds)}
    found["of a megapixel, ms"] = found["minimum, ms"] / (batch * side**2 / 1e6)
    found["windows / maps"] = [round(padding(side, stride), 2) for stride in STAGES]
    return {**found, "memory, MB": memory[setting]} if setting in memory else found


def padding(side: int, stride: int) -> float:
    """Pixels of the windows over those of the map that they cover."""
    cells = side // stride
    return (-(-cells // WINDOW) * WINDOW) ** 2 / cells**2


def peak(setting: tuple[int, int, int], args: argparse.Namespace) -> float:
    worker = Worker(__file__, ["--serve"])
    found = worker(setting)
    worker.close()
    print(f"memory of batch {setting[0]}, {setting[1]} px: {found:.0f} MB", flush=True)
    return found


def prepare_memory() -> Callable[[tuple[int, int, int]], float]:
    """A worker that answers with what the peak of memory rises by, in MB."""
    import torch

    from ultralytics.nn.accelerate import for_inference
    from ultralytics.nn.tasks import RTDETRDetectionModel

    def run(setting: tuple[int, int, int]) -> float:
        batch, side, threads = setting
        torch.set_num_threads(threads)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        network, x = for_inference(RTDETRDetectionModel(MODEL)), torch.rand(batch, 3, side, side)
        with torch.no_grad():
            for _ in range(3):
                network(x)
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    return run


# Telling --------------------------------------------------------------------------------------------------------------


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(rows[0])} |", f"|{'---:|' * len(rows[0])}"]
    lines += [f"| {' | '.join(map(shown, found.values()))} |" for found in rows]
    return "\n".join(lines)


def shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


def draw(tables: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Four plots of the minima; a dashed line grows as the first number does, in proportion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2).flat
    along = (lambda r: r["side"] ** 2 / 1e6, lambda r: r["batch"], lambda r: r["threads"], lambda r: r["boxes"])
    labels = ("megapixels of an image", "batch", "threads", "boxes of each image")
    for axis, (title, rows), place, label in zip(axes, tables.items(), along, labels, strict=True):
        groups = sorted({r["side"] for r in rows}) if label == "threads" else [None]
        for side in groups:
            chosen = sorted((r for r in rows if side in (None, r.get("side"))), key=place)
            x, y = [place(r) for r in chosen], [r["minimum, ms"] for r in chosen]
            axis.plot(x, y, "o-", markersize=3, label=f"{side} px" if side else "measured")
            if label in ("megapixels of an image", "batch"):
                axis.plot(x, [y[0] * value / x[0] for value in x], "--", color="gray", label="in proportion")
        axis.set(title=title, xlabel=label, ylabel="milliseconds", ylim=(0, None))
        axis.legend()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
