"""What a module shares with everything else in the process: torch's switches, global hooks, and random numbers."""

from __future__ import annotations

import hashlib
import io
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as torch_module

from ultralytics.nn.contract.places import line_of_caller

CUDNN = torch.backends.cudnn


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # None is how torch starts, and costs nothing


# How each switch is read and set.
SWITCHES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (torch.get_default_device, _set_default_device),
    "float32 matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "cudnn.enabled": (lambda: CUDNN.enabled, lambda value: setattr(CUDNN, "enabled", value)),
    "cudnn.benchmark": (lambda: CUDNN.benchmark, lambda value: setattr(CUDNN, "benchmark", value)),
    "cudnn.deterministic": (lambda: CUDNN.deterministic, lambda value: setattr(CUDNN, "deterministic", value)),
}


def switches() -> dict[str, Any]:
    """Present values of all switches."""
    return {name: read() for name, (read, _) in SWITCHES.items()}


def hooks() -> dict[str, dict[int, Any]]:
    """The hooks that torch runs for every module of the process, by the kind of hook."""
    names = [n for n in vars(torch_module) if n.startswith("_global_") and n.endswith("_hooks")]
    return {name: dict(getattr(torch_module, name)) for name in names}


def random_state() -> tuple[Any, ...]:
    """State of the generators of torch, NumPy and Python."""
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def random_digests() -> tuple[str, ...]:
    """A digest for each generator of `random_state`, to compare."""
    torch_state, *others = random_state()
    texts = [torch_state.numpy().tobytes(), *(pickle.dumps(state) for state in others)]
    return tuple(hashlib.sha256(text).hexdigest() for text in texts)


def seed_everything(seed: int) -> None:
    """Start the generators of torch, NumPy and Python at a seed."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def restored() -> Iterator[None]:
    """Put switches, global hooks and generators back afterwards, and show no warnings meanwhile."""
    before, hooks_before, (torch_state, numpy_state, python_state) = switches(), hooks(), random_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, (read, write) in SWITCHES.items():
            if read() != before[name]:
                write(before[name])
        for name, content in hooks_before.items():
            present = getattr(torch_module, name)
            present.clear()
            present.update(content)
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


class Heard(io.TextIOBase):
    """A standard output that keeps what is written and the line of the file that wrote it."""

    def __init__(self, file: str):
        self.file = file
        self.text = ""
        self.line: int | None = None

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not self.text:
            self.line = line_of_caller(self.file)
        self.text += text
        return len(text)


@contextmanager
def listening(file: str) -> Iterator[Heard]:
    """Catch what is printed meanwhile. Standard error, where libraries complain, is only kept from the table."""
    heard = Heard(file)
    with redirect_stdout(heard), redirect_stderr(io.StringIO()):
        yield heard
