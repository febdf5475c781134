"""Non-maximum suppression of raw outputs of 8400 positions and 80 classes, as in validation: conf 0.001, multi_label.

    python benchmarks/nms.py --peer 8.4.190=FOLDER --repeats 20

A peer is a folder for PYTHONPATH. All sides get the same numbers in turns, on one thread, and must keep the same boxes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from interleave import Worker, in_turns, markdown, peers, serve

LOGITS = {"few": -11.0, "usual": -9.0, "many": -6.0}  # mean logit of the background, and so the number of candidates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(prepare)
        return
    workers = {
        name: Worker(__file__, ["--serve"], folder) for name, folder in {"ours": None, **peers(args.peer)}.items()
    }
    rows = {}
    for name, logit in LOGITS.items():
        kept = {}

        def side(worker: Worker, who: str, name: str = name, kept: dict = kept) -> Callable[[], float]:
            def run() -> float:
                seconds, kept[who] = worker(name)
                return seconds

            return run

        times = in_turns({who: side(worker, who) for who, worker in workers.items()}, args.repeats)
        assert len(set(map(tuple, kept.values()))) == 1, f"other boxes: {kept}"
        rows[f"{int((raw_output(logit)[:, 4:] > 0.001).sum()):,} candidates"] = times
    print(markdown(rows))


def raw_output(logit: float, nc: int = 80, positions: int = 8400, objects: int = 25) -> np.ndarray:
    """(1, 4 + nc, positions): a tenth of the positions is on an object, with a high score for its class."""
    rng = np.random.default_rng(0)
    center, size, main = (
        640 * rng.random((objects, 2)),
        20 + 200 * rng.random((objects, 2)),
        rng.integers(nc, size=objects),
    )
    k, here = rng.integers(objects, size=positions), rng.random(positions) < 0.1
    xy = center[k] + 0.1 * size[k] * rng.standard_normal((positions, 2))
    wh = size[k] * np.exp(0.15 * rng.standard_normal((positions, 2)))
    logits = logit + 1.5 * rng.standard_normal((positions, nc))
    logits[here, main[k][here]] = 2 * rng.standard_normal(here.sum())
    y = np.concatenate([xy, wh, 1 / (1 + np.exp(-logits))], 1)
    return y.T[None].astype(np.float32)


def prepare() -> Callable[[Any], Any]:
    import torch
    import torchvision  # noqa: F401 (published packages use its operator if it is imported)

    try:
        from ultralytics.utils.nms import non_max_suppression
    except ImportError:
        from ultralytics.utils.ops import non_max_suppression
    torch.set_num_threads(1)
    outputs = {name: torch.from_numpy(raw_output(logit)) for name, logit in LOGITS.items()}

    def run(name: str) -> tuple[float, list[float]]:
        begin = time.perf_counter()
        (rows,) = non_max_suppression(outputs[name], 0.001, 0.7, multi_label=True, max_det=300)
        return time.perf_counter() - begin, [len(rows), *rows.double().sum(0).tolist()]

    return run


if __name__ == "__main__":
    main()
