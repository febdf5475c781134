"""mAP against minutes of training: the default recipe, each option for faster convergence, and all of them together.

    python benchmarks/convergence.py --minutes 25 --out runs/convergence
    python benchmarks/convergence.py --configs default dense=0.3 dense=0.5 dense=1 --seeds 1 --out runs/dense
    python benchmarks/convergence.py --data my.yaml --imgsz 320 --options mosaic=0 --out runs/my-convergence

First the seconds of a step are measured, loading of images included, for all configurations in turns, which needs an
idle machine. Then each configuration is trained with each seed for as many steps as fit into the minutes. What a run
learns depends on its seed and steps only, so that these runs may share the machine (--jobs). `plain` is the network as
tutorials write it, in a loop of its own. Its losses and gradients are ours (tests), so ours is trained in its place.
Runs that are finished are not done again: the same command goes on where it was stopped.

Written to --out: seconds.json, runs/*.json (one a run), convergence.md (table) and convergence.png (curves).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from convergence_report import write_report
from interleave import Times, in_turns, timed

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "loss_class=mal": {"loss_class": "mal"},
    "dense=0.5": {"dense": 0.5},
    "one_to_many=1": {"one_to_many": 1.0},
    "denoising=100": {"denoising": 100},  # as many as are usual for 300 queries
    "all": {"loss_class": "mal", "dense": 0.5, "one_to_many": 1.0},
    "plain": {"denoising": 100},  # the seconds of a step are those of the network and the loops of plain.py
}
SETTINGS = ("data", "model", "imgsz", "batch", "queries", "lr0", "warmup", "points", "threads")
REPORT = threading.Lock()


class Done(Exception):
    """The run has done its steps."""


def main() -> int:
    args = parse_arguments()
    if args.run:
        run(args, args.run, args.seed)
        return 0
    for config in (*args.configs, *args.options):  # a mistyped one is told before hours are spent on the others
        options_of(config)
    (args.out / "runs").mkdir(parents=True, exist_ok=True)
    seconds = measure(args)
    runs = [(config, seed) for seed in range(args.seeds) for config in args.configs]
    with ThreadPoolExecutor(args.jobs) as pool:
        succeeded = list(pool.map(lambda each: start(args, *each, seconds), runs))
    failed = [f"{config}, seed {seed}" for (config, seed), good in zip(runs, succeeded, strict=True) if not good]
    if failed:
        print(f"failed: {'; '.join(failed)}; the reasons are in {args.out / 'runs'}/*.log", file=sys.stderr)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25, help="of training for each run, on --threads threads")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each configuration")
    parser.add_argument(
        "--configs",
        nargs="+",
        default=[c for c in CONFIGS if c != "plain"],
        help="names, or options as key=value, joined by +",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/convergence"))
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--model", default="rtdetr-efficientvit-m0.yaml")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--lr0", type=float, default=3e-4)
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--options", nargs="*", default=[], help="of every run, as key=value")
    parser.add_argument("--points", type=int, default=25, help="validations of each run, evenly spaced")
    parser.add_argument("--threads", type=int, default=2, help="for which the minutes count")
    parser.add_argument("--repeats", type=int, default=20, help="steps of each configuration that are timed, in turns")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the threads")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # one configuration, in this process
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--run-threads", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


# Seconds of a step ----------------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step of each configuration. Known ones are kept in seconds.json."""
    file = args.out / "seconds.json"
    known = json.loads(file.read_text()) if file.exists() else {"settings": settings(args), "seconds": {}}
    refuse_other_settings(file, known["settings"], settings(args))
    missing = [config for config in args.configs if config not in known["seconds"]]
    if missing:
        import torch

        torch.set_num_threads(args.threads)
        print(f"{args.repeats} steps of each configuration, in turns", flush=True)
        sides = dict.fromkeys([args.configs[0], *missing])
        times = in_turns({config: timed(steps(args, config).__next__) for config in sides}, args.repeats, warmup=4)
        known["seconds"] = compared(times, known["seconds"])
        file.write_text(json.dumps(known, indent=1))
    return known["seconds"]


def compared(times: Times, known: dict[str, float]) -> dict[str, float]:
    """The first side's median (or what is known of it), and that times the others' median ratio to it, turn by turn.

    In a turn all sides see images of one size on a machine in one state; over the turns both vary.
    """
    base, *others = times
    seconds = {base: statistics.median(times[base]), **known}
    for other in others:
        ratios = [there / here for there, here in zip(times[other], times[base], strict=True)]
        seconds[other] = seconds[base] * statistics.median(ratios)
    return seconds


def steps(args: argparse.Namespace, config: str) -> Iterator[None]:
    """Steps of a training run without end; all configurations draw the same sizes of images."""
    from ultralytics.models.rtdetr import RTDETRTrainer

    quiet = {"model": args.model, "verbose": False}
    trainer = RTDETRTrainer(overrides={**options(args, config, 0, f"{file_stem(config)}-timed"), **quiet})
    trainer._setup_train()
    step = trainer.training_step
    if "plain" in config.split("+"):
        from plain import PlainRTDETR
        from training import SIDES, make_step

        size = Path(args.model).stem.rpartition("-")[2]  # m0 to m5
        network = PlainRTDETR(size, trainer.model.nc, args.queries, trainer.model.model[-1].num_denoising)
        step = make_step(SIDES[1], network)
    while True:
        for batch in trainer.remaining_batches():
            step(trainer.preprocess_batch(batch))
            yield
        trainer.epoch, trainer.batches_done = trainer.epoch + 1, 0


# One run --------------------------------------------------------------------------------------------------------------


def start(args: argparse.Namespace, config: str, seed: int, seconds: dict[str, float]) -> bool:
    """Run a configuration in a process of its own, unless it is done, and renew the report. Returns its success."""
    steps = round(args.minutes * 60 / seconds[config])
    name = args.out / "runs" / f"{file_stem(config)}-seed{seed}"
    result = name.with_suffix(".json")
    known = json.loads(result.read_text()) if result.exists() else {"settings": settings(args), "steps": 0}
    refuse_other_settings(result, known["settings"], settings(args))
    if known["steps"] >= steps:  # a run that went on for longer is read at these minutes
        print(f"{config}, seed {seed}: done before")
    else:
        print(f"{config}, seed {seed}: {steps} steps", flush=True)
        if not call(args, config, seed, steps, max(args.threads // args.jobs, 1), name):
            return False
    with REPORT:
        write_report(args.out, args.configs, seconds, {**settings(args), "minutes": args.minutes})
    return True


def call(args: argparse.Namespace, config: str, seed: int, steps: int, threads: int, name: Path) -> bool:
    """This script once more, for one run. What it prints is in name.log, what it finds in name.json."""
    environment = {**os.environ, **{key: str(threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}}
    own = ["--run", config, "--seed", str(seed), "--steps", str(steps), "--run-threads", str(threads)]
    with open(name.with_suffix(".log"), "w", encoding="utf-8") as log:
        command = [sys.executable, __file__, *sys.argv[1:], *own]
        code = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    return code == 0


def run(args: argparse.Namespace, config: str, seed: int) -> None:
    """Train for args.steps and write the points."""
    import torch

    from ultralytics import RTDETR

    torch.set_num_threads(args.run_threads)
    watch = Watch(args.steps, args.points)
    name = args.out / "runs" / f"{file_stem(config)}-seed{seed}"
    model = RTDETR(args.model)
    model.add_callback("on_train_batch_end", watch.on_train_batch_end)
    with contextlib.suppress(Done):
        model.train(**options(args, config, seed, name.stem))
    known = {"config": config, "options": options_of(config), "seed": seed, "settings": settings(args)}
    text = json.dumps({**known, "torch": torch.__version__, "steps": args.steps, "points": watch.points}, indent=1)
    unfinished = name.with_suffix(".tmp")
    unfinished.write_text(text)
    unfinished.replace(name.with_suffix(".json"))


def options(args: argparse.Namespace, config: str, seed: int, name: str) -> dict[str, Any]:
    """What a run is trained with."""
    ours = {
        **{key: getattr(args, key) for key in ("data", "imgsz", "batch", "queries", "lr0")},
        "seed": seed,
        "nbs": args.batch,  # a step a batch
        "warmup_iters": args.warmup,
        "epochs": 100_000,  # the watch ends the run
        "close_mosaic": 0,
        "patience": 0,
        "workers": 0,
        "device": "cpu",
        "val": False,  # the watch validates
        "save": False,
        "plots": False,
        "project": str(args.out / "runs" / "folders"),
        "name": name,
        "exist_ok": True,
    }
    return {**ours, **options_of("+".join([*args.options, config]))}


class Watch:
    """A callback that validates at even intervals and raises Done after the last step."""

    def __init__(self, steps: int, points: int) -> None:
        self.due = [round(steps * (n + 1) / points) for n in range(points)]
        self.points: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any) -> None:
        if trainer.updates < self.due[0]:
            return
        self.due = [step for step in self.due if step > trainer.updates]
        metrics, _ = trainer.validate()
        accuracy = {"map50": metrics["metrics/mAP50(B)"], "map": metrics["metrics/mAP50-95(B)"]}
        self.points.append({"steps": trainer.updates, **accuracy})
        print(f"point {self.points[-1]}", flush=True)
        if not self.due:
            raise Done


# Names and settings ---------------------------------------------------------------------------------------------------


def options_of(config: str) -> dict[str, Any]:
    """Options of a configuration: names of CONFIGS and key=value, joined by +."""
    import yaml

    options: dict[str, Any] = {}
    for part in config.split("+"):
        key, equals, value = part.partition("=")
        if part not in CONFIGS and not equals:
            raise SystemExit(
                f"--configs: no configuration {part!r}; there are {', '.join(CONFIGS)}, or write key=value"
            )
        options |= CONFIGS[part] if part in CONFIGS else {key: yaml.safe_load(value)}
    return options


def file_stem(config: str) -> str:
    return config.replace("=", "-").replace(".", "_")


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {key: getattr(args, key) for key in SETTINGS} | {"options": " ".join(args.options)}


def refuse_other_settings(file: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = ", ".join(f"{k} {before.get(k)} is now {now[k]}" for k in now if before.get(k) != now[k])
    if changed:
        raise SystemExit(f"{file}: a run with other settings ({changed}); choose another --out, or remove it")


if __name__ == "__main__":
    raise SystemExit(main())
