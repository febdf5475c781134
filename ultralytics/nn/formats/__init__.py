"""Runtimes for exported models, one file each: a function `load` that opens a file and returns its `Opened`.

onnx         onnxruntime
openvino     OpenVINO
torchscript  torch.jit
tensorrt     NVIDIA TensorRT, on a CUDA GPU
metadata     what a file says of the model in it, however the format keeps it
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from ultralytics.cfg.options import Options
from ultralytics.nn.formats.metadata import Metadata, Opened

OPENVINO_FOLDER = "_openvino_model"  # the end of a folder's name, as published exporters write it
BY_SUFFIX = {".onnx": "onnx", ".torchscript": "torchscript", ".engine": "tensorrt", ".xml": "openvino"}


def backend_name(path: str | Path) -> str | None:
    """The file of this package that runs `path`, by its name alone; None for what is no exported model."""
    path = Path(path)
    return "openvino" if path.name.endswith(OPENVINO_FOLDER) else BY_SUFFIX.get(path.suffix.lower())


def open_exported(path: str | Path, *, device: str = "cpu", threads: int = 1) -> Opened:
    """Open an exported model.

    Args:
        path: the file, or OpenVINO's folder.
        device: "cpu" or "cuda:N".
        threads: of the runtime, where it computes on the CPU.

    Raises:
        WeightsError: it is missing, damaged, or of another kind of model.
        MissingPackageError: the runtime is not installed.
        DeviceError: the runtime cannot use the device.
    """
    module = importlib.import_module(f"ultralytics.nn.formats.{backend_name(path)}")
    return module.load(Path(path), device=device, threads=threads)


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
