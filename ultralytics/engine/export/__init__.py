"""Export formats, one file each: a function `export` that writes a `Job` and returns the file.

onnx, openvino, torchscript, tensorrt, safetensors
calibration   images from which int8 learns the ranges of the activations
comparison    the exported model beside PyTorch
traced        the network as exporters trace it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from ultralytics.cfg import Options
from ultralytics.nn.backends import Metadata


@dataclass(frozen=True)
class Format:
    """What a format is and can do.

    Attributes:
        module: the file of this package that writes it.
        ending: of the file's name, or the folder's.
        int8, half, dynamic: whether it has them.
    """

    module: str
    ending: str
    int8: bool = False
    half: bool = True
    dynamic: bool = True


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format("onnx", ".onnx", int8=True),
        "openvino": Format("openvino", "_openvino_model", int8=True),
        "torchscript": Format("torchscript", ".torchscript"),
        "engine": Format("tensorrt", ".engine"),
        "safetensors": Format("safetensors", ".safetensors", dynamic=False),
    }
)


@dataclass(frozen=True)
class Job:
    """An export to be done.

    Attributes:
        network: the detector in eval, folded, float32, on the CPU (on the GPU for an engine).
        options: of the run.
        metadata: what the file is to say.
        file: what is written.
        calibration: (N, 3, H, W) images for int8; None without it.
    """

    network: nn.Module
    options: Options
    metadata: Metadata
    file: Path
    calibration: torch.Tensor | None = None

    @property
    def example(self) -> torch.Tensor:
        """(B, 3, H, W) an input to trace with."""
        device = next(self.network.parameters()).device
        generator = torch.Generator().manual_seed(0)
        return torch.rand(self.metadata.batch, 3, *self.metadata.imgsz, generator=generator).to(device)
