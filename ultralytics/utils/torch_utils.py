"""Devices, seeds, random states and mixed precision."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.utils.deterministic
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ultralytics.utils import LOGGER
from ultralytics.utils.dist import local_rank, started_by_torchrun
from ultralytics.utils.errors import DeviceError
from ultralytics.utils.flops import get_flops, model_info
from ultralytics.utils.ops import make_divisible


def compiled(network: nn.Module) -> Compiled | nn.Module:
    """What calls `network` through torch.compile; an exported model, which has no weights here, comes back as it is."""
    if next(network.parameters(), None) is None:
        LOGGER.warning("compile=True: an exported model is run by its own runtime; there is nothing to compile")
        return network
    return Compiled(network)


class Compiled:
    """Calls a network through torch.compile. Where that fails it says why, and calls the network itself from then on.

    Compiling happens in the first call, and again for images of another size, and takes a minute or more.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        # The compiler's own random numbers are others than torch's, and a seed would not give the same run.
        self._call: Any = torch.compile(network, options={"fallback_random": True})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._call is self.network:
            return self.network(*args, **kwargs)
        try:
            return self._call(*args, **kwargs)
        except Exception as error:  # of any kind: an error that is not the compiler's comes again below
            result = self.network(*args, **kwargs)
            reason = next(iter(str(error).strip().splitlines()), "no message")
            LOGGER.warning(
                f"compile=True: torch.compile failed ({type(error).__name__}: {reason}); the run goes on without it. "
                "On a CPU it needs a C++ compiler, on a GPU Triton"
            )
            self._call = self.network
            return result


__all__ = [
    "ModelEMA",
    "autocast",
    "clock",
    "count_devices",
    "de_parallel",
    "describe_device",
    "deterministic_algorithms",
    "fuse_conv_and_bn",
    "fuse_deconv_and_bn",
    "get_flops",
    "init_seeds",
    "initialize_weights",
    "is_parallel",
    "make_divisible",
    "model_info",
    "select_device",
    "time_sync",
]


def select_device(device: str | int | Sequence[int] | torch.device | None = None) -> torch.device:
    """The device to compute on: None takes the first GPU that is there, else the CPU.

    Understands 'cpu', 'mps', 0, '0', 'cuda', 'cuda:0', [0], and torch devices. Of several, '0,1', each process of a
    distributed run takes its own, as with None. Raises DeviceError.
    """
    asked = _normalise(device)
    if started_by_torchrun():
        asked = _own_device(asked)
    if asked == "" and torch.cuda.is_available():
        return torch.device("cuda:0")
    if asked in ("", "cpu"):
        return torch.device("cpu")
    if asked == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError(f"device={device!r}: no Apple GPU is visible to torch here; write device='cpu'.")
        return torch.device("mps")
    if "," in asked:
        raise DeviceError(f"device={device!r}: only training runs on several devices; write one, such as device='0'.")
    if not asked.isdigit():
        raise DeviceError(f"device={device!r}: expected 'cpu', 'mps', or the number of a CUDA device such as '0'.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(asked) < count:
        return torch.device("cuda", int(asked))
    if count == 0:
        raise DeviceError(f"device={device!r}: no CUDA device is visible to torch {torch.__version__}; {_CPU_HINT}")
    raise DeviceError(
        f"device={device!r}: {count} CUDA device(s) visible, numbered 0 to {count - 1}; write one of them."
    )


def count_devices(device: str | int | Sequence[int] | torch.device | None) -> int:
    """How many devices are named: 2 for '0,1'."""
    return _normalise(device).count(",") + 1


def _own_device(asked: str) -> str:
    """The device of this process: of those named the one at its place, else the GPU of its number."""
    named = asked.split(",") if asked else []
    if len(named) > 1:
        if local_rank() >= len(named):
            raise DeviceError(
                f"device={asked!r}: {len(named)} devices for process {local_rank() + 1}; name one for each."
            )
        return named[local_rank()]
    return asked or (str(local_rank()) if torch.cuda.is_available() else "cpu")


_CPU_HINT = "write device='cpu' to use the processor."


def _normalise(device: str | int | Sequence[int] | torch.device | None) -> str:
    """'' (choose), 'cpu', 'mps', '1', or '0,1'; anything else comes back as it was written."""
    if device is None:
        return ""
    if isinstance(device, (list, tuple)):
        device = ",".join(str(item) for item in device)
    text = str(device).lower().replace(" ", "").strip("[]()").rstrip(",")
    if text in ("cuda", "gpu"):
        return "0"
    return text.replace("cuda:", "")


def describe_device(device: torch.device) -> str:
    """One phrase for the log, such as `CPU (2 threads)` or `CUDA 0 (NVIDIA A100, 40 GB)`."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"CUDA {device.index or 0} ({properties.name}, {properties.total_memory / 2**30:.0f} GB)"
    if device.type == "cpu":
        return f"CPU ({torch.get_num_threads()} threads)"
    return device.type.upper()


def init_seeds(*seed: int) -> None:
    """Seed Python, NumPy and torch; of several numbers each matters."""
    mixed = seed[0] if len(seed) == 1 else int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed)


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Let torch choose algorithms that repeat exactly while the block runs; afterwards its switches are as before.

    On the CPU equal seeds then give equal bits; without it, sums over several threads are taken in no fixed order (the
    gradient of the attention biases). On CUDA the gradient of `grid_sample`, which deformable attention uses, has no
    such algorithm: torch warns of it.
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )
    _set_algorithms(enabled, True, False, enabled, not enabled)
    try:
        yield
    finally:
        _set_algorithms(*before)


def _set_algorithms(deterministic: bool, warn_only: bool, fill: bool, cudnn: bool, benchmark: bool) -> None:
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # costs time and helps only code that reads garbage
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn, benchmark


def clock(device: torch.device) -> float:
    """Seconds from some fixed moment, after all work given to the device so far is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Mixed precision in `dtype`, or plain float32 for None."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def half_dtype(device: torch.device) -> torch.dtype | None:
    """The 16-bit type for mixed precision: on CUDA bfloat16 where the GPU computes with it, else float16.

    bfloat16 has the range of float32 and does not overflow. None elsewhere: there 16 bits are slower or not there.
    """
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def time_sync() -> float:
    """Seconds from some fixed moment, after all work given to the current GPU so far is done."""
    return clock(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def is_parallel(model: nn.Module) -> bool:
    """Whether the model is wrapped for several devices."""
    return isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)


def de_parallel(model: nn.Module) -> nn.Module:
    """The model without that wrapper."""
    return model.module if is_parallel(model) else model


def unwrap_model(model: nn.Module) -> nn.Module:
    """The model without what torch.compile and several devices have put around it."""
    while is_parallel(model) or hasattr(model, "_orig_mod"):
        model = model.module if is_parallel(model) else model._orig_mod
    return model


def initialize_weights(model: nn.Module, *, keep_outputs: bool = False) -> None:
    """Set the normalisations as published models have them: eps 1e-3, momentum 0.03. Weights stay as they are.

    With `keep_outputs`, for a network that has learned something already, the running variances v are moved so that
    v + eps stays what it was.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            if keep_outputs and module.track_running_stats:
                module.running_var += module.eps - 1e-3
            module.eps, module.momentum = 1e-3, 0.03


def fuse_conv_and_bn(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """`conv` with the statistics of `bn` folded in, without gradients. Changes `conv` and returns it."""
    return _folded(conv, bn, transposed=False)


def fuse_deconv_and_bn(deconv: nn.ConvTranspose2d, bn: nn.BatchNorm2d) -> nn.ConvTranspose2d:
    """The same for a transposed convolution without groups."""
    return _folded(deconv, bn, transposed=True)


def _folded(conv: nn.Module, bn: nn.BatchNorm2d, transposed: bool) -> nn.Module:
    statistics = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, transpose=transposed)
    return conv.requires_grad_(False)


class ModelEMA:
    """Exponential moving average of a model's weights, in float32; integer buffers (batch counters) are copied.

    The decay grows as `decay * (1 - exp(-updates / tau))`, so that the initial weights are forgotten early
    (official RT-DETR: decay 0.9999, tau 2000). Build it when the model is on its final device: the tensors are
    collected once, which makes an update two fused passes over the weights. Modules with `training_only = True` are
    removed from the average, and so from validation and saved weights.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, tau: float = 2000.0, updates: int = 0) -> None:
        self.ema = without_training_parts(deepcopy(model)).eval().float().requires_grad_(False)
        self._model = model
        self.decay = decay
        self.tau = tau
        self.updates = updates
        self._averaged: list[torch.Tensor] = []
        self._sources: list[torch.Tensor] = []
        self._copied: list[tuple[torch.Tensor, torch.Tensor]] = []
        seen: set[int] = set()  # weights shared by two modules have two names, but must be updated once
        average = self.ema.state_dict()
        for name, source in model.state_dict().items():
            if name not in average:  # of a training-only module
                continue
            if source.numel() and source.data_ptr() in seen:
                continue
            seen.add(source.data_ptr())
            if source.is_floating_point():
                self._averaged.append(average[name])
                self._sources.append(source)
            else:
                self._copied.append((average[name], source))

    def decay_at(self, updates: int) -> float:
        """Return the decay of the `updates`-th update, counting from 1."""
        return self.decay * (1 - math.exp(-updates / self.tau))

    @torch.no_grad()
    def update(self, model: nn.Module | None = None) -> bool:
        """Average the model's current weights in. Return False, changing nothing, if some of them are not finite.

        `model` is accepted for scripts that pass it; it must be the one this average was made from.
        """
        if model is not None and model is not self._model:
            raise ValueError("ModelEMA.update: got another model than the one it was made from")
        if not torch.stack(torch._foreach_norm(self._sources)).isfinite().all():
            return False
        self.updates += 1
        torch._foreach_lerp_(self._averaged, [s.float() for s in self._sources], 1 - self.decay_at(self.updates))
        for average, source in self._copied:
            average.copy_(source)
        return True


def without_training_parts(model: nn.Module) -> nn.Module:
    """Remove every module with `training_only = True` from the model in place, and return it."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if getattr(child, "training_only", False):
                delattr(module, name)
    return model
