"""The processes of one run: which one this is, how many there are, and what they tell each other.

Without a process group every function answers for a single process, so callers need no cases.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ultralytics.utils import LOGGER

T = TypeVar("T")
ALONE: ContextVar[bool] = ContextVar("alone", default=False)
PATIENCE = timedelta(hours=1)  # for one process that scans a large data set while the others wait
# Seconds for gloo's threads, which outlive the group in DDP, to let go of the tensors they sent last: one that does so
# while the interpreter ends aborts the process.
SETTLE = 0.3


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun (or a launcher like it) has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """Number of this process on its machine, which decides its device."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def rank() -> int:
    """Number of this process, from 0; process 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() and not ALONE.get() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() and not ALONE.get() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun has started while the block runs; nothing where this is the only one.

    Processes other than the first log errors only.
    """
    if not started_by_torchrun() or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    level = LOGGER.level
    if rank():
        LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        dist.destroy_process_group()
        time.sleep(SETTLE)


@contextmanager
def alone() -> Iterator[None]:
    """Every function of this file answers for a single process while the block runs, so that none waits for others."""
    token = ALONE.set(True)
    try:
        yield
    finally:
        ALONE.reset(token)


@contextmanager
def main_first() -> Iterator[None]:
    """Process 0 runs the block, then the others: what it writes (caches, a generated data set) they find."""
    if rank():
        _wait_for_all()
    yield
    if not rank():
        _wait_for_all()


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process; all must ask."""
    if world_size() == 1:
        return flag
    shared = torch.tensor([float(flag)], device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared.item())


def mean_over_ranks(values: Tensor) -> Tensor:
    """Mean of the tensor over all processes; all must ask."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def gather(value: T) -> list[T]:
    """What every process has, by rank; anything that pickles."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def from_main(value: T) -> T:
    """What process 0 has; anything that pickles."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


@torch.no_grad()
def share_state(module: nn.Module) -> None:
    """Give every process the parameters and buffers of process 0 (statistics of BatchNorm differ between them)."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def interleave(parts: Sequence[Sequence[T]], block: int = 1) -> list[T]:
    """Undo the dealing out of blocks of items: parts [[a, c], [b]] with block 1 were [a, b, c]."""
    longest = max(map(len, parts))
    return [item for start in range(0, longest, block) for part in parts for item in part[start : start + block]]


def _wait_for_all() -> None:
    if world_size() > 1:
        dist.barrier()
