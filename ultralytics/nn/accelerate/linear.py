"""Linear layers computed as 1x1 convolutions on AMD processors with AVX-512, where these are twice as fast.

torch multiplies float32 matrices on x86 with MKL, which uses AVX-512 on Intel processors only. Convolutions use oneDNN,
which has no such limit. Figures are in benchmarks/RESULTS.md.
"""

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CPUINFO = Path("/proc/cpuinfo")  # of Linux
SMALLEST = 1 << 22  # multiplications; below, calling a convolution costs more than it saves


class ConvolutionLinear(nn.Linear):
    """`nn.Linear` as a 1x1 convolution where that is faster."""

    plain, label = nn.Linear, "Linear as convolution"

    @staticmethod
    def applies(module: nn.Linear) -> bool:
        """Check that the weights are on such a processor."""
        return module.weight.is_cpu and mkl_lacks_avx512()

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class ChannelsFirstLinear(nn.Linear):
    """`nn.Linear` for maps read as rows: input and output (B, N, C) are stored as (B, C, N) and never copied."""

    plain, label = nn.Linear, "value projections without copies"

    def forward(self, x: Tensor) -> Tensor:
        channels_first = x.transpose(1, 2)  # (B, C, N)
        if faster_as_convolution(x, self.weight):
            out = F.conv2d(channels_first.unsqueeze(2), self.weight[:, :, None, None], self.bias).squeeze(2)
        else:
            out = torch.baddbmm(self.bias.view(1, -1, 1), self.weight.expand(len(x), -1, -1), channels_first)
        return out.transpose(1, 2)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `F.linear`: (..., C) -> (..., C_out) with `weight` (C_out, C)."""
    if not faster_as_convolution(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, C, 1, rows), channels-last: nothing is copied
    out = F.conv2d(rows, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])


def faster_as_convolution(x: Tensor, weight: Tensor) -> bool:
    """Check whether a convolution is faster here; never while tracing, as the graph runs elsewhere."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return (
        x.is_cpu
        and x.dtype is weight.dtype is torch.float32
        and x.numel() * weight.shape[0] >= SMALLEST
        and torch.get_num_threads() > 1  # with one thread torch computes these convolutions with MKL, too
        and mkl_lacks_avx512()
    )


@cache
def mkl_lacks_avx512() -> bool:
    """Check for an AMD processor with AVX-512 and a torch with MKL and oneDNN."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    return "AuthenticAMD" in (CPUINFO.read_text() if CPUINFO.exists() else platform.processor())
