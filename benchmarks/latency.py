"""Latency side by side: our accelerated networks, plain eager ones, the published packages, exported files, timm.

    python benchmarks/latency.py --peer 8.1.47=FOLDER 8.4=FOLDER
    python benchmarks/latency.py --rows plain exports --repeats 20
    python benchmarks/latency.py --rows peers --models yolov8n.yaml yolo26n.yaml --peer 8.4.190=FOLDER --threads 1 --cpu

A peer is a folder for PYTHONPATH with another `ultralytics`. All sides take turns; printed are minimum and median, and
the minima as multiples of the floor: operations of our network / the peak of the machine, measured in this run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from interleave import Times, Worker, against_peers, in_turns, markdown, peers, serve, timed

PLAIN = (("m0", 640, 1), ("m5", 640, 1), ("m0", 320, 8))  # size, image side, batch
EXPORTS = (("openvino", False), ("onnx", False), ("openvino", True), ("onnx", True))  # format, int8
CALIBRATION = 8  # images for int8, whose speed does not depend on them
Row = tuple[Times, float]  # seconds of the sides, and 1e9 operations of our accelerated network


def main() -> None:
    args = parse_arguments()
    if args.serve:
        serve(lambda: prepare_side(args) if "@" not in args.serve else prepare_detector(args.serve, args))
        return
    import torch
    from machine import product_peak

    torch.set_grad_enabled(False)
    peaks, rows = [], {}
    for kind in args.rows:
        peaks.append(product_peak(args.threads))
        rows |= ROWS[kind](args)
    peak = max(peaks)
    floors = {what: count / peak for what, (_, count) in rows.items()}
    print(f"\n{args.threads} threads, {args.repeats} repeats, matrix products at {peak:.0f} GFLOP/s\n")
    print(markdown({what: times for what, (times, _) in rows.items()}, floors=floors))
    print("\nfloors: " + ", ".join(f"{what} {rows[what][1]:.1f} GFLOP" for what in rows))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=[*ROWS], default=[*ROWS])
    parser.add_argument("--peer", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--models", nargs="+", default=["rtdetr-l.yaml"], help="that the peers have too")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="peers: CPU time of each process, on a machine in use")
    parser.add_argument("--serve", metavar="MODEL@SIDE, SIDE:SIZE:IMGSZ:BATCH or file:FILE", help=argparse.SUPPRESS)
    return parser.parse_args()


def images(batch: int, side: int) -> Any:
    import torch

    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


# Plain ----------------------------------------------------------------------------------------------------------------


def plain_rows(args: argparse.Namespace) -> dict[str, Row]:
    """Both in processes of their own, as how our package sets up a process is part of what is measured."""
    from machine import operations
    from plain import both

    from ultralytics.nn.accelerate import for_inference

    rows = {}
    for size, side, batch in PLAIN:
        ours, plain = both(size)
        ours = for_inference(ours)
        x = images(batch, side)
        what = f"{size} {side}, batch {batch}"
        tell_difference(what, plain(x)[0], ours(x)[0])
        count = operations(ours, x)
        del ours, plain
        workers = {name: worker(f"{name}:{size}:{side}:{batch}", args) for name in ("ours", "plain eager")}
        rows[what] = in_turns(workers, args.repeats, warmup=3), count
        tell(what, rows[what][0])
        for each in workers.values():
            each.close()
    return rows


def worker(side: str, args: argparse.Namespace, folder: str | None = None) -> Worker:
    return Worker(__file__, ["--serve", side, "--threads", str(args.threads), *["--cpu"][: args.cpu]], folder)


def prepare_side(args: argparse.Namespace) -> Callable[[Any], float]:
    """A worker with our network, the plain one, or an exported file."""
    import torch
    from plain import both

    from ultralytics.nn.accelerate import for_inference
    from ultralytics.nn.accelerate.host_memory import prepare_host_memory
    from ultralytics.nn.formats import open_exported

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    name, rest = args.serve.split(":", 1)
    if name == "file":  # run as our predictor does
        prepare_host_memory()
        network, x = open_exported(Path(rest), threads=args.threads).run, images(1, 640)
    else:
        size, side, batch = rest.split(":")
        ours, plain = both(size)
        network, x = plain, images(int(batch), int(side))
        if name == "ours":
            network = for_inference(ours)
    run = timed(partial(network, x))
    return lambda request: run()


def tell_difference(what: str, expected: Any, found: Any) -> None:
    """Both sides have to compute the same, or the comparison is worth nothing."""
    from ultralytics.engine.exporter import BOUNDS, compare

    difference = compare(expected, found, "float32")
    print(f"{what}: {difference}", flush=True)
    if not difference.within(BOUNDS["float32"]):
        raise SystemExit(f"{what}: the sides do not compute the same")


def tell(what: str, times: Times) -> None:
    """Progress, as it comes."""
    print(f"{what}: " + ", ".join(f"{n} {1000 * statistics.median(t):.0f} ms" for n, t in times.items()), flush=True)


# Peers ----------------------------------------------------------------------------------------------------------------


def peer_rows(args: argparse.Namespace) -> dict[str, Row]:
    """Each package in a process of its own, its network fused; ours also accelerated."""
    rows = {}
    for model in args.models if args.peer else ():
        sides = {"ours": None, "plain": None, **peers(args.peer)}
        workers = {name: worker(f"{model}@{name}", args, folder) for name, folder in sides.items()}
        versions = {name: each("version") for name, each in workers.items()}
        what = f"{Path(model).stem} 640, batch 1"
        print(f"{what}: {versions}", flush=True)
        times = in_turns({name: partial(each, "seconds") for name, each in workers.items()}, args.repeats, warmup=3)
        rows |= {row: (t, workers["ours"]("operations")) for row, t in against_peers(what, times).items()}
        tell(what, times)
        for each in workers.values():
            each.close()
    return rows


def prepare_detector(model: str, args: argparse.Namespace) -> Callable[[str], Any]:
    """A worker with the package that PYTHONPATH finds first."""
    import torch
    from machine import operations

    import ultralytics
    from ultralytics.nn import tasks
    from ultralytics.utils.torch_utils import select_device

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    select_device("cpu")  # each package sets up the process as it does
    torch.manual_seed(0)
    model, side = model.split("@")
    family = tasks.DetectionModel if model.startswith("yolo") else tasks.RTDETRDetectionModel
    network = family(model, verbose=False).eval()
    if side == "ours":
        from ultralytics.nn.accelerate import for_inference

        network = for_inference(network)
    else:
        if side == "plain":  # sets up the process only, as `accelerate=False` does
            from ultralytics.nn.accelerate import for_inference

            network = for_inference(network, rewrite=False)
        network.fuse()
    x = images(1, 640)
    answers = {
        "version": lambda: ultralytics.__version__,
        "seconds": timed(partial(network, x), cpu=args.cpu),
        "operations": lambda: operations(network, x),
    }
    return lambda request: answers[request]()


# Exports --------------------------------------------------------------------------------------------------------------


def export_rows(args: argparse.Namespace) -> dict[str, Row]:
    """m0 in other runtimes: ours, and the plain one by the same exporter, against the plain one eager."""
    from machine import operations
    from plain import both

    from ultralytics.nn.accelerate import for_inference
    from ultralytics.nn.formats import open_exported

    ours, plain = both("m0")
    ours = for_inference(ours)
    x, rows = images(1, 640), {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, int8 in EXPORTS:
            what = f"m0 640, {kind}{' int8' if int8 else ''}"
            print(f"{what}: exporting", flush=True)
            files = [
                export(network, kind, int8, Path(folder) / name) for name, network in (("ours", ours), ("plain", plain))
            ]
            if not int8:
                tell_difference(what, plain(x)[0], open_exported(files[0], threads=args.threads).run(x))
            sides = (f"file:{files[0]}", "plain eager:m0:640:1", f"file:{files[1]}")
            workers = [worker(side, args) for side in sides]
            names = ("ours", "plain eager", "plain, exported")
            times = in_turns(dict(zip(names, workers, strict=True)), args.repeats, warmup=3)
            rows[what] = times, operations(ours, x)
            tell(what, times)
            for each in workers:
                each.close()
    return rows


def export(network: Any, kind: str, int8: bool, folder: Path) -> Path:
    """The network as a file of another runtime."""
    from ultralytics.engine.exporter import Exporter, drawn_images
    from ultralytics.nn.formats import ExportSpec, Metadata, get_format

    options = Exporter(overrides={"format": kind, "int8": int8}).args
    metadata = Metadata({i: str(i) for i in range(80)}, (640, 640), precision="int8" if int8 else "float32")
    file = folder / f"m0{'_int8' if int8 else ''}{get_format(kind).suffixes[0]}"
    folder.mkdir(exist_ok=True)
    spec = ExportSpec(network, options, metadata, file, drawn_images(CALIBRATION, (640, 640)) if int8 else None)
    return get_format(kind).export(spec)


# timm -----------------------------------------------------------------------------------------------------------------


def timm_rows(args: argparse.Namespace) -> dict[str, Row]:
    """Backbones: timm's without their head; their stem gets our last stride, 1, so that all maps have equal sizes."""
    import timm
    from machine import operations
    from plain import both
    from timm.utils.model import reparameterize_model

    rows, x = {}, images(1, 640)
    for size in ("m0", "m5"):
        ours = both(size)[0].fuse().model[0]
        theirs = timm.create_model(f"efficientvit_{size}", img_size=1280).eval()  # maps of 640 with the other stride
        theirs.patch_embed.conv4.conv.stride = (1, 1)
        folded = reparameterize_model(theirs)
        sides = {"ours": ours}
        for name, network in (("timm", theirs), ("timm, reparameterize_model", folded)):
            sides[name] = partial(timm_features, network)
            shapes = [[tuple(level.shape) for level in side(x)] for side in (ours, sides[name])]
            if shapes[0] != shapes[1]:
                raise SystemExit(f"{name}: maps are {shapes[1]}, ours {shapes[0]}")
        what = f"backbone {size} 640, batch 1"
        sides = {name: timed(partial(side, x)) for name, side in sides.items()}
        rows[what] = in_turns(sides, args.repeats, warmup=3), operations(ours, x)
        tell(what, rows[what][0])
    return rows


def timm_features(network: Any, x: Any) -> list[Any]:
    maps = [network.patch_embed(x)]
    for stage in network.stages:
        maps.append(stage(maps[-1]))
    return maps


ROWS = {"plain": plain_rows, "peers": peer_rows, "exports": export_rows, "timm": timm_rows}

if __name__ == "__main__":
    main()
