"""What this machine can do at the most: float32 matrix products in GFLOP/s, and copying in GB/s.

    python benchmarks/machine.py --threads 1 2

Everything that a network computes is products of matrices, more or less: operations / peak is the floor of its time.
Products are measured as torch.mm and as 1x1 convolutions, which come from different libraries; the faster is the peak.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SIDES = (512, 1024, 2048)  # of the matrices: the best counts
COPIED = 64 * 2**20  # numbers, far more than the caches hold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    print("| threads | torch.mm | 1x1 convolutions | copying (read and written) |\n|---:|---:|---:|---:|")
    for threads in args.threads:
        products, bandwidth = product_speeds(threads, args.repeats), copy_bandwidth(threads, args.repeats)
        speeds = " | ".join(f"{speed:.0f} GFLOP/s" for speed in products)
        print(f"| {threads} | {speeds} | {bandwidth:.1f} GB/s |", flush=True)


def product_peak(threads: int) -> float:
    """GFLOP/s of float32 matrix products, by the faster of both ways."""
    return max(product_speeds(threads))


@torch.no_grad()
def product_speeds(threads: int, repeats: int = 10) -> tuple[float, float]:
    """GFLOP/s of torch.mm and of 1x1 convolutions, each at its best size."""
    torch.set_num_threads(threads)
    speeds = []
    for product in (torch.mm, by_convolution):
        sides = ((side, *torch.rand(2, side, side)) for side in SIDES)
        speeds.append(max(2 * side**3 / shortest(partial(product, a, b), repeats) for side, a, b in sides) / 1e9)
    return speeds[0], speeds[1]


def by_convolution(rows: Tensor, weight: Tensor) -> Tensor:
    """`rows` times the transposed `weight`."""
    return F.conv2d(rows[None, None].permute(0, 3, 1, 2), weight[:, :, None, None])


def copy_bandwidth(threads: int, repeats: int = 10) -> float:
    """GB/s of a copy, what is read and what is written together."""
    torch.set_num_threads(threads)
    source, target = torch.rand(COPIED), torch.zeros(COPIED)
    return 2 * source.numel() * source.element_size() / shortest(lambda: target.copy_(source), repeats) / 1e9


def shortest(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the shortest of some calls, after one that warms up."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@torch.no_grad()
def operations(network: nn.Module, x: Tensor) -> float:
    """1e9 operations of the convolutions and matrix products of a call, attention included."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see into it
    try:
        # with gradients on, convolutions of our networks are those of torch, which the counter knows
        with torch.enable_grad(), FlopCounterMode(display=False) as counter:
            network(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    return counter.get_total_flops() / 1e9


if __name__ == "__main__":
    main()
