"""A training step side by side: our network, optimiser and average against the plain network with the usual loops.

    python benchmarks/training.py --repeats 15
    python benchmarks/training.py --models yolov8n.yaml yolo26n.yaml --peer 8.4.190=FOLDER --cases 2x320 --cpu

A step is forward, loss, backward, clipping of the gradient, AdamW and the moving average of the weights. The loss is
ours on both sides. Then the peak memory of predicting from weights, and of training. Each side is a process of its own,
ours set up as our trainer does. With `--models` instead: model files, with SGD and each package's own loss and average,
against our network without `for_training` and against other packages.
"""

from __future__ import annotations

import argparse
import copy
import math
import resource
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from interleave import Times, Worker, against_peers, in_turns, markdown, peers, serve, timed

MEMORY = (("predict", 1, 640), ("train", 2, 640))
PROCESSES = 7  # of each side, whose memory is measured
SIDES = ("ours", "plain eager")
RATE, DECAY, CLIP = 1e-4, 1e-4, 0.1


def main() -> None:
    args = parse_arguments()
    if args.serve:
        serve(lambda: prepare_detector(args) if "@" in args.serve else prepare(args))
        return
    if args.models:
        print(markdown(peer_rows(args)))
        return
    # First: a process takes over the peak of the one that starts it, which has imported nothing yet.
    with tempfile.TemporaryDirectory() as args.weights:
        saving = start("ours", args)
        saving(["save", 0, 0])
        saving.close()
        memory = {f"{what} m0, {batch} x {side}": peaks(what, batch, side, args) for what, batch, side in MEMORY}
    rows = {f"step m0, {case}": measure(*map(int, case.split("x")), args) for case in args.cases}
    print(f"{args.threads} threads, {args.repeats} repeats, {args.boxes} boxes of each image\n")
    print(markdown(rows))
    print("\n| peak memory added by | ours | plain eager | ours / plain |\n|---|---:|---:|---:|")
    for what, (ours, plain) in memory.items():
        print(f"| {what} | {ours:.0f} MB | {plain:.0f} MB | {ours / plain:.2f} |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["4x320", "2x640"], help="batch x side of the images")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--boxes", type=int, default=12, help="of each image")
    parser.add_argument("--models", nargs="+", default=[], help="YOLO model files that the peers have too")
    parser.add_argument("--peer", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--cpu", action="store_true", help="models: CPU time of each process, on a machine in use")
    parser.add_argument("--serve", metavar="SIDE or MODEL@SIDE", help=argparse.SUPPRESS)
    parser.add_argument("--weights", default="", help=argparse.SUPPRESS)  # folder of a file of weights for each side
    return parser.parse_args()


def measure(batch: int, side: int, args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of the steps of both, with the same images, boxes and first weights."""
    workers = {name: start(name, args) for name in SIDES}
    steps = {name: partial(worker, ["step", batch, side]) for name, worker in workers.items()}
    seconds = in_turns(steps, args.repeats, warmup=3)
    for worker in workers.values():
        worker.close()
    return seconds


def peaks(what: str, batch: int, side: int, args: argparse.Namespace) -> list[float]:
    """MB that each side adds, the median over processes in turns: where maps come to lie in the heap varies."""
    found: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(PROCESSES):
        for name, values in found.items():
            worker = start(name, args)
            values.append(worker([what, batch, side]))
            worker.close()
    return [statistics.median(values) for values in found.values()]


def peer_rows(args: argparse.Namespace) -> dict[str, Times]:
    """Each package in a process of its own; ours with and without `for_training`."""
    rows, sides = {}, {"ours": None, "plain": None, **peers(args.peer)}
    for model, case in ((model, case) for model in args.models for case in args.cases):
        workers = {name: start(f"{model}@{name}", args, folder) for name, folder in sides.items()}
        steps = {name: partial(worker, case) for name, worker in workers.items()}
        rows |= against_peers(f"step {Path(model).stem}, {case}", in_turns(steps, args.repeats, warmup=3))
        for worker in workers.values():
            worker.close()
    return rows


# One side -------------------------------------------------------------------------------------------------------------


def start(side: str, args: argparse.Namespace, folder: str | None = None) -> Worker:
    words = {"serve": side, "threads": args.threads, "boxes": args.boxes, "weights": args.weights}
    return Worker(__file__, [f"--{name}={value}" for name, value in words.items()] + ["--cpu"][: args.cpu], folder)


def prepare_detector(args: argparse.Namespace) -> Callable[[str], float]:
    """A worker with the package that PYTHONPATH finds first."""
    import torch
    import torch._dynamo

    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.torch_utils import ModelEMA

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, side = args.serve.split("@")
    network = DetectionModel(model, verbose=False)
    network.args = get_cfg()  # gains of the loss
    if side in ("ours", "plain"):
        optimizer, average = our_updates(network, "SGD", fast=side == "ours")
    else:
        groups = [[p for p in network.parameters() if (p.ndim > 1) is decays] for decays in (True, False)]
        groups = [{"params": groups[0], "weight_decay": DECAY}, {"params": groups[1]}]
        optimizer = torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True)
        average = partial(ModelEMA(network).update, network)
    step, data = make_step(network, optimizer, average), {}

    def run(case: str) -> float:
        if case not in data:
            data[case] = random_batch(*map(int, case.split("x")), args.boxes)
        return timed(partial(step, data[case]), cpu=args.cpu)()

    return run


def prepare(args: argparse.Namespace) -> Callable[[tuple[str, int, int]], float]:
    """A worker that does a step and answers with its seconds, or with the memory that predicting or training adds."""
    import torch

    # Imports are no part of what is measured; the compiler is what torch imports for any optimiser.
    import torch._dynamo

    import ultralytics.engine.optim
    import ultralytics.losses.detr  # noqa: F401
    from ultralytics.nn.accelerate.host_memory import prepare_host_memory

    torch.set_num_threads(args.threads)
    if args.serve == "ours":
        prepare_host_memory()
    step: Callable[[], float] | None = None

    def run(request: tuple[str, int, int]) -> float:
        nonlocal step
        what, batch, side = request
        if what == "save":
            return save_weights(Path(args.weights))
        if what != "step":
            return memory_of(what, batch, side, args)
        if step is None:
            from plain import both

            network = dict(zip(SIDES, both("m0"), strict=True))[args.serve]
            step = timed(partial(plain_or_ours(args.serve, network), random_batch(batch, side, args.boxes)))
        return step()

    return run


def save_weights(folder: Path) -> None:
    """A file of weights for each side, to predict with."""
    import torch
    from plain import PlainRTDETR

    from ultralytics import RTDETR

    RTDETR("rtdetr-efficientvit-m0.yaml").save(folder / "ours.pt")
    torch.save(PlainRTDETR("m0").state_dict(), folder / "plain.pt")


def memory_of(what: str, batch: int, side: int, args: argparse.Namespace) -> float:
    """How much the peak of memory grows from before there is a network, in MB."""
    import torch
    from plain import PlainRTDETR

    from ultralytics import RTDETR
    from ultralytics.nn.accelerate import for_inference
    from ultralytics.nn.tasks import RTDETRDetectionModel

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours, folder = args.serve == "ours", Path(args.weights)
    if what == "train":
        network = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml") if ours else PlainRTDETR("m0")
        step, data = plain_or_ours(args.serve, network), random_batch(batch, side, args.boxes)
        for _ in range(3):
            step(data)
    else:
        if ours:
            network = for_inference(RTDETR(folder / "ours.pt").model)
        else:
            network = PlainRTDETR("m0").eval()
            network.load_state_dict(torch.load(folder / "plain.pt"))
        with torch.inference_mode():
            for _ in range(3):
                network(torch.rand(batch, 3, side, side))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def plain_or_ours(side: str, network: Any) -> Callable[[dict[str, Any]], None]:
    return make_step(network, *(our_updates(network) if side == "ours" else plain_updates(network)))


def make_step(network: Any, optimizer: Any, average: Callable[[], Any]) -> Callable[[dict[str, Any]], None]:
    """A function that trains the network on a batch once."""
    import torch

    network.train()
    parameters = list(network.parameters())

    def step(data: dict[str, Any]) -> None:
        total, _ = network(data)
        total.sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average()

    return step


def our_updates(network: Any, name: str = "AdamW", fast: bool = True) -> tuple[Any, Callable[[], Any]]:
    """Accelerate the network if `fast`; return optimizer and average as our trainer has them."""
    from ultralytics.engine.optim import build_optimizer, param_groups
    from ultralytics.nn.accelerate import for_training
    from ultralytics.utils.torch_utils import ModelEMA

    if fast:
        for_training(network)
    groups = param_groups(network, lr=RATE, weight_decay=DECAY, backbone_lr_ratio=1.0)
    return build_optimizer(name, groups, momentum=0.9), ModelEMA(network).update


def plain_updates(network: Any) -> tuple[Any, Callable[[], Any]]:
    """AdamW as torch makes it, and the average as a loop over the entries of the state."""
    import torch

    averaged, updates = copy.deepcopy(network).eval().requires_grad_(False), 0

    @torch.no_grad()
    def average() -> None:
        nonlocal updates
        updates += 1
        decay = 0.9999 * (1 - math.exp(-updates / 2000))
        state = network.state_dict()
        for name, value in averaged.state_dict().items():
            if value.dtype.is_floating_point:
                value *= decay
                value += (1 - decay) * state[name].detach()

    average.network = averaged
    return torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY), average


def random_batch(batch: int, side: int, boxes: int) -> dict[str, Any]:
    """Images and labels, always the same."""
    import torch

    draw, count = torch.Generator().manual_seed(0), batch * boxes
    centre, size = (torch.rand(count, 2, generator=draw) for _ in range(2))
    return {
        "img": torch.rand(batch, 3, side, side, generator=draw),
        "cls": torch.randint(80, (count, 1), generator=draw).float(),
        "bboxes": torch.cat((0.2 + 0.6 * centre, 0.05 + 0.2 * size), 1),
        "batch_idx": torch.arange(batch).repeat_interleave(boxes).float(),
    }


if __name__ == "__main__":
    main()
