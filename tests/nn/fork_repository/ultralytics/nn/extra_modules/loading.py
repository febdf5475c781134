"""Imports by functions, files next to this one, and operators that are compiled on import."""

import importlib
import os
from pathlib import Path

from torch import nn
from torch.utils.cpp_extension import load

from ultralytics.utils.loss import BboxLoss

from .deep.inner.part import InnerPart

HERE = os.path.dirname(os.path.abspath(__file__))
names = sorted(file.name for file in Path(HERE).glob("*.py"))
part = importlib.import_module(".deep.inner.part", package=__package__)
same = importlib.import_module("ultralytics.nn.extra_modules.deep.inner.part")
math = __import__("math")
scan = importlib.import_module("selective_scan_cuda")
try:
    fast = importlib.import_module("fast_cuda_operator")
except ImportError:
    fast = None
upsample_op = load(name="upsample_op", sources=[os.path.join(HERE, "upsample.cpp"), os.path.join(HERE, "upsample.cu")])


class LoadedParts(nn.Module):
    def __init__(self, dim):
        super().__init__()
        assert "loading.py" in names and fast is None and math.sqrt(4) == 2
        assert part.InnerPart is same.InnerPart is InnerPart
        self.part = part.InnerPart(dim)

    def forward(self, x):
        return self.part(x)


class CompiledUp(LoadedParts):
    def forward(self, x):
        return upsample_op.forward(x)


class ScanByName(LoadedParts):
    def forward(self, x):
        return scan.fwd(x)
