import torch
import torch.nn as nn

try:
    import selective_scan_cuda
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
except:
    pass
try:
    from natten.functional import natten_scores
except ImportError:
    natten_scores = None
from .missing_kernels import skaffold_kernel

__all__ = ["ScanBlock", "ScanDown", "TritonMix", "DeviceMix", "NeighborMix"]


class ScanBlock(nn.Module):
    def __init__(self, in_channels, hidden_dim=0):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, x):
        return selective_scan_fn(self.conv(x))


class ScanDown(nn.Module):
    def __init__(self, inp, oup, stride=2):
        super().__init__()
        self.conv = nn.Conv2d(inp, oup, 3, stride, 1)

    def forward(self, x):
        return selective_scan_fn(self.conv(x))


class TritonMix(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 1)

    def forward(self, x):
        raise RuntimeError("Triton kernels need a GPU")


class DeviceMix(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        assert x.is_cuda, "this operator runs on CUDA tensors only"
        return self.conv(x)


class NeighborMix(ScanBlock):
    def forward(self, x):
        return natten_scores(self.conv(x), x)
