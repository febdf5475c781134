"""Distributed training: rank, world size and collectives. Without a process group they act as a single rank."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ultralytics.utils import LOGGER
from ultralytics.utils.public import public_names

T = TypeVar("T")
ALONE: ContextVar[bool] = ContextVar("alone", default=False)
TIMEOUT = timedelta(hours=1)  # for one rank that scans a large data set while the others wait


def started_by_torchrun() -> bool:
    """Return whether torchrun (or a similar launcher) has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """Return the rank of this process on its machine, which selects its device."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def rank() -> int:
    """Return the rank of this process; rank 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() and not ALONE.get() else 0


def world_size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_initialized() and not ALONE.get() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group of torchrun while the block runs; no-op for a single process.

    Ranks other than 0 log errors only.
    """
    if not started_by_torchrun() or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    level = LOGGER.level
    if rank():
        LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        dist.destroy_process_group()
        time.sleep(0.3)  # gloo's threads release their last tensors; else the interpreter may abort at exit


@contextmanager
def alone() -> Iterator[None]:
    """Act as a single rank while the block runs, so that no collective waits for other ranks."""
    token = ALONE.set(True)
    try:
        yield
    finally:
        ALONE.reset(token)


@contextmanager
def main_first(local_rank: int | None = None) -> Iterator[None]:
    """Run the block on rank 0, then on the others, which find its files; published code gives the rank, not used."""
    if rank():
        gather(None)  # wait for rank 0
    yield
    if not rank():
        gather(None)


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether the flag is set on any rank; all ranks must call it."""
    return bool(mean_over_ranks(torch.tensor(float(flag), device=device))) if world_size() > 1 else flag


def mean_over_ranks(values: Tensor) -> Tensor:
    """Average a tensor over all ranks (all-reduce); all ranks must call it."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def gather(value: T) -> list[T]:
    """Return the values of all ranks, by rank (all-gather); anything that can be pickled."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def from_main(value: T) -> T:
    """Broadcast the value of rank 0; anything that can be pickled."""
    box = [value]
    if world_size() > 1:
        dist.broadcast_object_list(box)
    return box[0]


@torch.no_grad()
def share_state(module: nn.Module) -> None:
    """Broadcast parameters and buffers of rank 0 (BatchNorm statistics differ between ranks)."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


__getattr__ = public_names(__name__)
