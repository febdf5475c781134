"""Linear layers, computed as 1x1 convolutions on processors where these are twice as fast.

torch multiplies float32 matrices on x86 by MKL, which uses AVX-512 on Intel's processors alone. Convolutions are
oneDNN's, which uses it wherever it is. So on AMD's with AVX-512 a linear layer is computed as what it is, too: a 1x1
convolution of its rows (docs/en/performance.md has the figures).
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 1 << 22  # multiplications; below, calling a convolution costs more than it saves


class Linear(nn.Linear):
    """`nn.Linear`, see `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`: (..., C) -> (..., C_out) with `weight` (C_out, C)."""
    if not faster_as_convolution(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, C, 1, rows), channels-last: nothing is copied
    out = F.conv2d(rows, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])


def linear_over_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same over the second axis: (B, C, N) -> (B, C_out, N)."""
    if faster_as_convolution(x, weight):
        return F.conv2d(x.unsqueeze(2), weight[:, :, None, None], bias).squeeze(2)
    return torch.baddbmm(bias.view(1, -1, 1), weight.expand(len(x), -1, -1), x)


def faster_as_convolution(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution computes this product faster here. Never for a tracer, whose graph runs elsewhere."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return (
        x.is_cpu
        and x.dtype is weight.dtype is torch.float32
        and x.numel() * weight.shape[0] >= SMALLEST
        and torch.get_num_threads() > 1  # on one thread torch computes these convolutions by MKL, too
        and mkl_leaves_avx512_unused()
    )


@cache
def mkl_leaves_avx512_unused() -> bool:
    """Whether this is a processor of AMD with AVX-512, and torch has both libraries."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and "AuthenticAMD" in processor()


def processor() -> str:
    """What the system says of the processor, its vendor among it."""
    try:
        with Path("/proc/cpuinfo").open() as text:  # Linux
            return text.read(1000)
    except OSError:
        return platform.processor()  # Windows
