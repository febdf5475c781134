"""Modules that each break one point of the contract. `# fault` marks the line that the report has to name."""

from __future__ import annotations

import re
from pathlib import Path

HEADER = """\
import random

import numpy as np
import torch
from torch import nn

from ultralytics.nn import plans
from ultralytics.nn.registry import register

"""

# Check that has to fail -> the modules that break it.
BROKEN = {
    "stated": {
        "WrongChannels": """
@register(plans.conv)  # fault
class WrongChannels(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2 + 8, 1)

    def forward(self, x):
        return self.conv(x)
""",
        "WrongWidths": """
@register(plans.backbone(8, 16))  # fault
class WrongWidths(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 24, 2, 2)

    def forward(self, x):
        y = self.first(x)
        return [y, self.second(y)]
""",
        "WrongStride": """
@register(plans.backbone(8, 16))  # fault
class WrongStride(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 16, 6, 6)

    def forward(self, x):
        y = self.first(x)
        return [y, self.second(y)]
""",
    },
    "determinism": {
        "DropsInEval": """
@register(plans.channel_preserving)
class DropsInEval(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):  # fault
        return nn.functional.dropout(x)
""",
        "SharedState": """
@register(plans.channel_preserving)
class SharedState(nn.Module):
    calls = torch.zeros(1)

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):  # fault
        self.calls += 1
        return x * self.calls.to(x.dtype)
""",
        "OwnWeights": """
@register(plans.channel_preserving)
class OwnWeights(nn.Module):
    draw = torch.Generator()

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels, 1, 1, generator=self.draw))  # fault

    def forward(self, x):
        return x * self.scale
""",
    },
    "sizes": {
        "FixedSize": """
@register(plans.channel_preserving)
class FixedSize(nn.Module):
    def __init__(self, channels, side=32):
        super().__init__()
        self.position = nn.Parameter(torch.randn(channels, side, side))

    def forward(self, x):
        return x + self.position  # fault
""",
    },
    "batches": {
        "MixesImages": """
@register(plans.channel_preserving)
class MixesImages(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):  # fault
        return x - x.mean((0, 2, 3), keepdim=True)
""",
        "PooledNorm": """
@register(plans.channel_preserving)
class PooledNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x * self.norm(x.mean((2, 3), keepdim=True)).sigmoid()  # fault
""",
    },
    "backward": {
        "UnusedParameter": """
@register(plans.channel_preserving)
class UnusedParameter(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.used = nn.Conv2d(channels, channels, 1)
        self.unused = nn.Conv2d(channels, channels, 1)  # fault

    def forward(self, x):
        return self.used(x)
""",
        "InfiniteGradient": """
@register(plans.channel_preserving)
class InfiniteGradient(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.power = nn.Parameter(torch.zeros(channels, 1, 1))  # fault

    def forward(self, x):
        return x * self.power.sqrt()
""",
    },
    "precision": {
        "Float32Table": """
@register(plans.channel_preserving)
class Float32Table(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        mix = torch.eye(self.channels)
        return torch.einsum("oc,bchw->bohw", mix, x)  # fault
""",
    },
    "copies": {
        "OpenFile": """
@register(plans.channel_preserving)
class OpenFile(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.log = open(__file__)  # fault

    def forward(self, x):
        return x * 2
""",
        "KeepsActivation": """
@register(plans.channel_preserving)
class KeepsActivation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        self.last = self.conv(x)  # fault
        return self.last
""",
        "LocalFunction": """
@register(plans.channel_preserving)
class LocalFunction(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.act = lambda x: x.relu()  # fault

    def forward(self, x):
        return self.act(x)
""",
    },
    "weights": {
        "PlainTensor": """
@register(plans.channel_preserving)
class PlainTensor(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.mean = torch.rand(1)  # fault

    def forward(self, x):
        return x + self.mean.to(x.dtype)
""",
    },
    "fold": {
        "InexactFold": """
@register(plans.channel_preserving)
class InexactFold(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.conv(x))

    def fold(self):  # fault
        self.norm = nn.Identity()
""",
    },
    "torchscript": {
        "PythonBranch": """
@register(plans.channel_preserving)
class PythonBranch(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * 2 if round(x.mean().item() * 1e7) % 2 else x * 3
""",
    },
    "printing": {
        "PrintsInForward": """
@register(plans.channel_preserving)
class PrintsInForward(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        print(x.shape)  # fault
        return x * 2
""",
        "PrintsWhenImported": """
print("loaded")  # fault


@register(plans.channel_preserving)
class PrintsWhenImported(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * 2
""",
    },
    "globals": {
        "DefaultDtype": """
@register(plans.channel_preserving)
class DefaultDtype(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.conv(x)
        torch.set_default_dtype(torch.float64)  # fault
        return y
""",
        "MatmulWhenImported": """
torch.set_float32_matmul_precision("high")  # fault


@register(plans.channel_preserving)
class MatmulWhenImported(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * 2
""",
        "GradientsOff": """
@register(plans.channel_preserving)
class GradientsOff(nn.Module):
    def __init__(self, channels):
        super().__init__()
        torch.set_grad_enabled(False)  # fault

    def forward(self, x):
        return x * 2
""",
        "GlobalHook": """
def note(module, args, output):
    return None


@register(plans.channel_preserving)
class GlobalHook(nn.Module):
    def __init__(self, channels):
        super().__init__()
        nn.modules.module.register_module_forward_hook(note)  # fault

    def forward(self, x):
        return x * 2
""",
    },
    "seeding": {
        "SeedsItsWeights": """
@register(plans.channel_preserving)
class SeedsItsWeights(nn.Module):
    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(0)  # fault
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.conv(x)
""",
        "SeedsNumpy": """
@register(plans.channel_preserving)
class SeedsNumpy(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        np.random.seed(3)  # fault
        return x * 2
""",
    },
    "inputs": {
        "WritesIntoInput": """
@register(plans.channel_preserving)
class WritesIntoInput(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        x += 1  # fault
        return x * 2
""",
    },
    "statistics": {
        "ProbingForward": """
@register(plans.backbone(8, 16))
class ProbingForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8))
        self.second = nn.Conv2d(8, 16, 2, 2)
        self.width_list = [y.shape[1] for y in self(torch.randn(1, 3, 64, 64))]  # fault

    def forward(self, x):
        y = self.first(x)
        return [y, self.second(y)]
""",
    },
    "builds": {
        "EvenKernel": """
@register(plans.channel_preserving)
class EvenKernel(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1 if channels < 16 else 2)  # runs on the channels of an image

    def forward(self, x):
        return x + self.conv(x)  # fault
""",
        "NoSuchLayer": """
@register(plans.channel_preserving)
class NoSuchLayer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, groups=7)  # fault

    def forward(self, x):
        return self.conv(x)
""",
    },
}


def write(folder: Path) -> None:
    """A file for each module."""
    for modules in BROKEN.values():
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(HEADER + text, encoding="utf-8")


def fault_line(check: str, name: str) -> int | None:
    """The line that `# fault` marks."""
    lines = (HEADER + BROKEN[check][name]).splitlines()
    return next((i for i, line in enumerate(lines, start=1) if re.search(r"# fault$", line)), None)
