"""A long training that is killed again and again, and resumed: is an epoch lost, does memory grow?

    python benchmarks/soak.py --epochs 300 --kills 20 --out runs/soak

Each run is a process of its own, which gets SIGKILL after a random time; the next goes on from its last.pt. Written to
the folder: soak.json (kills, epochs, memory), soak.png (memory over the epochs, kills marked), soak.log.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

SAMPLE = 1.0  # seconds between two looks at the memory
TRAIN = """
import sys, json
from ultralytics import RTDETR
options, model = json.loads(sys.argv[1]), sys.argv[2]
RTDETR(model).train(**options)
"""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--epochs", type=int, default=300)
    words.add_argument("--kills", type=int, default=20, help="how often the run is killed")
    words.add_argument("--data", default="shapes.yaml")
    words.add_argument("--imgsz", type=int, default=64)
    words.add_argument("--fraction", type=float, default=0.1, help="share of the training images")
    words.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    words.add_argument("--out", type=Path, default=Path("runs") / "soak")
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    record = soak(given)
    (given.out / "soak.json").write_text(json.dumps(record, indent=1))
    draw(record, given.out / "soak.png")
    print(summary(record))


def soak(given: argparse.Namespace) -> dict:
    """Train to the end through all kills. Returns what was seen."""
    options = {
        "data": given.data, "imgsz": given.imgsz, "epochs": given.epochs, "batch": 8, "nbs": 8, "queries": 30,
        "denoising": 20, "fraction": given.fraction, "patience": 0, "plots": False, "save_minutes": 0.05, "lr0": 3e-4,
        "project": str(given.out.resolve()), "name": "run", "exist_ok": True, "cache": True, "workers": 1,
    }  # fmt: skip
    last = given.out / "run" / "weights" / "last.pt"
    rng, memory, kills = random.Random(given.seed), [], []
    began = time.monotonic()
    seconds_per_run = 20.0  # until the first epochs have shown how long the whole takes
    while True:
        words = [json.dumps({"resume": str(last)} if last.exists() else options)]
        words.append(str(last) if last.exists() else "rtdetr-efficientvit-m0.yaml")
        with (given.out / "soak.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", TRAIN, *words], stdout=log, stderr=log)
        limit = rng.uniform(0.3, 1.7) * seconds_per_run if len(kills) < given.kills else None
        alive = watch(process, limit, given.out / "run" / "results.csv", memory)
        if alive:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills.append(epochs_done(given.out / "run" / "results.csv"))
            if kills[-1]:
                left = (given.epochs - kills[-1]) / max(given.kills + 1 - len(kills), 1)
                seconds_per_run = left * (time.monotonic() - began) / kills[-1]
            else:  # on a busy machine the start alone takes longer
                seconds_per_run *= 2
        elif process.returncode:
            raise SystemExit(f"the run failed, see {given.out / 'soak.log'}")
        else:
            break
    rows = list(csv.DictReader((given.out / "run" / "results.csv").open()))
    return {
        "epochs": [int(row["epoch"]) for row in rows],
        "kills": kills,
        "memory": memory,
        "seconds": round(time.monotonic() - began),
        "mAP50": float(rows[-1]["metrics/mAP50(B)"]),
    }


def watch(process: subprocess.Popen, limit: float | None, results: Path, memory: list) -> bool:
    """Note the memory of the process and its workers until it ends (False) or the time is over (True)."""
    began = time.monotonic()
    while process.poll() is None:
        if limit is not None and time.monotonic() - began > limit:
            return True
        memory.append((epochs_done(results), tree_megabytes(process.pid)))
        time.sleep(SAMPLE)
    return False


def epochs_done(results: Path) -> int:
    return max(sum(1 for _ in results.open()) - 1, 0) if results.exists() else 0


def tree_megabytes(pid: int) -> float:
    """Memory of a process and its children that no other process shares (Linux: Pss of smaps_rollup)."""
    total = 0
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    for number in (str(pid), *children):
        try:
            lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def draw(record: dict, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="epoch", ylabel="memory in MB", title="Memory of the training process and its workers"
    )
    epochs, megabytes = zip(*record["memory"], strict=True)
    axes.plot(epochs, megabytes, ".", markersize=2)
    for kill in record["kills"]:
        axes.axvline(kill, color="tab:red", linewidth=0.6)
    axes.set_ylim(bottom=0)
    figure.savefig(file, dpi=120)


def summary(record: dict) -> str:
    """The figures in a few lines."""
    lost = sorted(set(range(1, record["epochs"][-1] + 1)) - set(record["epochs"]))
    third = len(record["memory"]) // 3
    # The start of each process is cheaper than what follows, so the upper quarter of the samples is compared.
    early, late = (
        sorted(m for _, m in part)[-third // 4] for part in (record["memory"][:third], record["memory"][-third:])
    )
    return (
        f"{record['epochs'][-1]} epochs in {record['seconds'] / 60:.0f} minutes, killed {len(record['kills'])} times "
        f"(after epochs {record['kills']}); epochs missing or double in results.csv: {lost or 'none'}, "
        f"{len(record['epochs']) - len(set(record['epochs']))} double; memory {early:.0f} MB in the first third, "
        f"{late:.0f} MB in the last; mAP50 {record['mAP50']:.3f}"
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
