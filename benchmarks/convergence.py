"""mAP against minutes of training: the default recipe, each option for faster convergence, and all of them together.

    python benchmarks/convergence.py --minutes 25 --out runs/convergence
    python benchmarks/convergence.py --configs default dense=0.3 dense=0.5 dense=1 --seeds 1 --out runs/dense
    python benchmarks/convergence.py --data my.yaml --imgsz 320 --out runs/my-convergence

Every run is a process of its own and gets the same minutes of training on the same number of threads. Only training
counts (loading of images included): the clock stands still during validation. The runs go one after another, all
configurations with the first seed, then with the next, so that a change of the machine's speed meets all of them.
A run that is finished is not done again: the same command goes on where it was stopped.

Written to --out: runs/*.json (one a run), convergence.json, convergence.md (table) and convergence.png (curves).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from convergence_report import write_report

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "loss_class=mal": {"loss_class": "mal"},
    "dense=0.5": {"dense": 0.5},
    "one_to_many=1": {"one_to_many": 1.0},
    "denoising=20": {"denoising": 20},  # in proportion to 60 queries, as the usual 100 are to 300
    "all": {"loss_class": "mal", "dense": 0.5, "one_to_many": 1.0},
}
SETTINGS = ("data", "model", "imgsz", "batch", "queries", "lr0", "warmup", "minutes", "points", "threads")


class TimeIsUp(Exception):
    """The run has had its minutes."""


def main() -> int:
    args = parse_arguments()
    if args.run:
        train(args, args.run, args.seed)
        return 0
    for config in args.configs:  # a mistyped one is told before hours are spent on the others
        options_of(config)
    runs = [(config, seed) for seed in range(args.seeds) for config in args.configs]
    failed = [f"{config}, seed {seed}" for config, seed in runs if not start(args, config, seed)]
    if failed:
        print(f"failed: {'; '.join(failed)}; the reasons are in {args.out / 'runs'}/*.log", file=sys.stderr)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25, help="of training for each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each configuration")
    parser.add_argument(
        "--configs", nargs="+", default=list(CONFIGS), help="names, or options as key=value, joined by +"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/convergence"))
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--model", default="rtdetr-efficientvit-m0.yaml")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--lr0", type=float, default=3e-4)
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--points", type=int, default=25, help="validations of each run, evenly spaced in time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", help=argparse.SUPPRESS)  # one configuration, in this process
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


# One run --------------------------------------------------------------------------------------------------------------


def start(args: argparse.Namespace, config: str, seed: int) -> bool:
    """Run a configuration in a process of its own, unless it is done, and renew the report. Returns its success."""
    result = run_file(args, config, seed)
    if result.exists():
        before, now = json.loads(result.read_text())["settings"], settings(args)
        if before != now:
            changed = ", ".join(f"{k} {before.get(k)} is now {now[k]}" for k in now if before.get(k) != now[k])
            raise SystemExit(f"{result}: a run with other settings ({changed}); choose another --out, or remove it")
        print(f"{config}, seed {seed}: done before")
    else:
        print(f"{config}, seed {seed}: {args.minutes:g} minutes of training", flush=True)
        result.parent.mkdir(parents=True, exist_ok=True)
        threads = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        with open(result.with_suffix(".log"), "w", encoding="utf-8") as log:
            command = [sys.executable, __file__, *sys.argv[1:], "--run", config, "--seed", str(seed)]
            code = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **threads})
        if code:
            return False
    write_report(args.out, args.configs, json.loads(result.read_text())["settings"])
    return True


def train(args: argparse.Namespace, config: str, seed: int) -> None:
    """Train for the minutes given, validating at even intervals, and write the points."""
    import torch

    from ultralytics import RTDETR

    torch.set_num_threads(args.threads)
    watch = Watch(args.minutes * 60, args.points)
    model = RTDETR(args.model)
    for event in ("on_train_start", "on_train_batch_end"):
        model.add_callback(event, getattr(watch, event))
    options = {
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
        "name": run_file(args, config, seed).stem,
        "exist_ok": True,
    }
    with contextlib.suppress(TimeIsUp):
        model.train(**{**options, **options_of(config)})
    result = {"config": config, "options": options_of(config), "seed": seed, "settings": settings(args)}
    text = json.dumps({**result, "torch": torch.__version__, "points": watch.points}, indent=1)
    unfinished = run_file(args, config, seed).with_suffix(".tmp")
    unfinished.write_text(text)
    unfinished.replace(run_file(args, config, seed))


class Watch:
    """Callbacks that count seconds of training, validate at even intervals and raise TimeIsUp at the end."""

    def __init__(self, seconds: float, points: int) -> None:
        self.due = [seconds * (n + 1) / points for n in range(points)]
        self.points: list[dict[str, float]] = []
        self.validating = 0.0
        self.started = 0.0

    def on_train_start(self, trainer: Any) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: Any) -> None:
        now = time.perf_counter()
        seconds = now - self.started - self.validating
        if seconds < self.due[0]:
            return
        self.due = [moment for moment in self.due if moment > seconds]
        trainer.validate()
        self.validating += time.perf_counter() - now
        metrics = {"map50": trainer.metrics["metrics/mAP50(B)"], "map": trainer.metrics["metrics/mAP50-95(B)"]}
        self.points.append({"minutes": seconds / 60, "steps": trainer.updates, **metrics})
        print(f"point {self.points[-1]}", flush=True)
        if not self.due:
            raise TimeIsUp


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


def run_file(args: argparse.Namespace, config: str, seed: int) -> Path:
    return args.out / "runs" / f"{config.replace('=', '-').replace('.', '_')}-seed{seed}.json"


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {key: getattr(args, key) for key in SETTINGS}


if __name__ == "__main__":
    raise SystemExit(main())
