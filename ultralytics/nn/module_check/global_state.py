"""What a module shares with everything else in the process: torch's switches, the environment, global hooks, and
random numbers.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as torch_module

from ultralytics.nn.module_check.source_lines import line_of_caller

CUDNN = torch.backends.cudnn


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # None is how torch starts, and costs nothing


# How each switch is read and set.
SWITCHES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (torch.get_default_device, _set_default_device),
    "float32 matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "deterministic algorithms": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "cudnn.enabled": (lambda: CUDNN.enabled, lambda value: setattr(CUDNN, "enabled", value)),
    "cudnn.benchmark": (lambda: CUDNN.benchmark, lambda value: setattr(CUDNN, "benchmark", value)),
    "cudnn.deterministic": (lambda: CUDNN.deterministic, lambda value: setattr(CUDNN, "deterministic", value)),
    "cudnn.allow_tf32": (lambda: CUDNN.allow_tf32, lambda value: setattr(CUDNN, "allow_tf32", value)),
}


def switches() -> dict[str, Any]:
    """Present values of all switches and, as `$NAME`, of the environment variables."""
    values = {name: read() for name, (read, _) in SWITCHES.items()}
    return values | {f"${name}": value for name, value in os.environ.items()}


def set_switches(values: dict[str, Any]) -> None:
    """Bring switches and environment variables to values of `switches`; those that already have theirs are not set."""
    for name, (read, write) in SWITCHES.items():
        if read() != values[name]:
            write(values[name])
    for name in {name for name in os.environ if f"${name}" not in values}:
        del os.environ[name]
    os.environ.update({name[1:]: value for name, value in values.items() if name.startswith("$")})


def turned(values: dict[str, Any]) -> dict[str, Any]:
    """Other values of the switches whose values change no result, so that setting one to what it is shows, too."""
    flags = ("cudnn.benchmark", "cudnn.deterministic", "cudnn.allow_tf32")
    precision = "highest" if values["float32 matmul precision"] == "high" else "high"
    others = {"float32 matmul precision": precision, "number of threads": values["number of threads"] + 1}
    return values | others | {name: not values[name] for name in flags}


def hooks() -> dict[str, Any]:
    """What torch runs for every module of the process, by the name of its global variable."""
    found = {name: value for name, value in vars(torch_module).items() if name.startswith("_global_")}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in found.items()}


def _set_hooks(values: dict[str, Any]) -> None:
    for name, content in values.items():
        present = getattr(torch_module, name)
        if isinstance(present, dict):
            present.clear()
            present.update(content)
        else:
            setattr(torch_module, name, content)


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
    """Put switches, environment, global hooks and generators back afterwards, and show no warnings meanwhile."""
    before, hooks_before, (torch_state, numpy_state, python_state) = switches(), hooks(), random_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        set_switches(before)
        _set_hooks(hooks_before)
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


class Heard(io.TextIOBase):
    """A stream that keeps what is written and the line of the file that wrote it first."""

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
    """Catch what is printed meanwhile, on standard output and on standard error."""
    heard = Heard(file)
    with redirect_stdout(heard), redirect_stderr(heard):
        yield heard
