"""Runtimes for exported models, one file each: a function `load` that opens a file and returns its `Opened`.

onnx         onnxruntime
openvino     OpenVINO
torchscript  torch.jit
tensorrt     NVIDIA TensorRT, on a CUDA GPU
metadata     what a file says of the model in it, however the format keeps it
"""

from __future__ import annotations

import importlib
from pathlib import Path

from ultralytics.nn.backends.metadata import Metadata, Opened

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
    module = importlib.import_module(f"ultralytics.nn.backends.{backend_name(path)}")
    return module.load(Path(path), device=device, threads=threads)
