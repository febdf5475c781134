"""What the benchmarks share: sides that are measured in turns (A, B, A, B, ...), in processes of their own if need be.

Two packages of the same name cannot be imported by one process. So a script starts itself once for each side, with that
side's folder in PYTHONPATH, as a worker that does one repeat whenever it is asked.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Times = dict[str, list[float]]  # seconds of each repeat, by side; ours is the first


class Worker:
    """`script` with `words`, importing from `folder` first; called with a request (plain data), it gives the answer."""

    def __init__(self, script: str | Path, words: Sequence[str], folder: str | Path | None = None):
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(script).resolve()), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=tempfile.gettempdir(),  # not where the other side's package may lie
            env=environment(folder),
        )

    def __call__(self, request: Any = None) -> Any:
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.log.seek(0)
            raise SystemExit(f"{self.process.args} ended:\n{self.log.read()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        """Let the process end; it has nothing to save."""
        self.process.stdin.close()
        self.process.wait()


def environment(folder: str | Path | None) -> dict[str, str]:
    """The process's own, importing from `folder` first; nothing is to be fetched while it is measured."""
    added = {"PYTHONPATH": str(Path(folder).resolve()), "YOLO_OFFLINE": "1"} if folder else {}
    return {**os.environ, **added}


def serve(prepare: Callable[[], Callable[[Any], Any]]) -> None:
    """Be a worker: what `prepare` gives answers every request. What libraries print goes to the error output."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer = prepare()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=replies, flush=True)


def peers(words: Sequence[str]) -> dict[str, str]:
    """`NAME=FOLDER ...` as a mapping."""
    return dict(word.partition("=")[::2] for word in words)


def in_turns(sides: dict[str, Callable[[], float]], repeats: int, warmup: int = 1) -> Times:
    """Call all sides in turns; each gives the seconds it took. The first `warmup` rounds do not count."""
    rounds = [{name: side() for name, side in sides.items()} for _ in range(warmup + repeats)]
    return {name: [times[name] for times in rounds[warmup:]] for name in sides}


def timed(run: Callable[[], Any], pause: float = 0.02, cpu: bool = False) -> Callable[[], float]:
    """A side for `in_turns`, in this process; `cpu` counts the time of the process only, on a machine in use.

    It first waits until threads of the side before have stopped spinning.
    """
    clock = time.process_time if cpu else time.perf_counter

    def side() -> float:
        time.sleep(pause)
        start = clock()
        run()
        return clock() - start

    return side


def against_peers(what: str, times: Times) -> dict[str, Times]:
    """Two rows of sides ours, plain and peers: ours against all, and our plain network against the peers."""
    return {what: times, f"{what}, accelerate=False": {n: t for n, t in times.items() if n != "ours"}}


def markdown(
    rows: dict[str, Times],
    show: Callable[[float], str] = lambda seconds: f"{1000 * seconds:.1f} ms",
    floors: dict[str, float] | None = None,
) -> str:
    """A row for each peer of each measurement: minimum and median of both sides, and how many times faster ours is.

    `floors` are the seconds that the machine needs at the least for what is measured: both minima are then also told
    as multiples of them.
    """
    lines = ["| what | ours, min (median) | against | min (median) | ratio of minima | of medians |"]
    lines.append("|---|---:|---|---:|---:|---:|")
    if floors is not None:
        lines = [lines[0] + " ours / floor | other / floor |", lines[1] + "---:|---:|"]
    for what, times in rows.items():
        (_, ours), *others = ((name, (min(t), statistics.median(t))) for name, t in times.items())
        for name, (least, middle) in others:
            lines.append(
                f"| {what} | {show(ours[0])} ({show(ours[1])}) | {name} | {show(least)} ({show(middle)}) "
                f"| {least / ours[0]:.2f} | {middle / ours[1]:.2f} |"
            )
            if floors is not None:
                multiples = (f"{least / floors[what]:.1f}" if what in floors else "" for least in (ours[0], least))
                lines[-1] += " {} | {} |".format(*multiples)
    return "\n".join(lines)
