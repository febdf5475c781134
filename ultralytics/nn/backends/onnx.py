"""ONNX models, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ultralytics.nn.backends.metadata import Metadata, Opened
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, WeightsError

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def load(path: Path, *, device: str = "cpu", threads: int = 1) -> Opened:
    """Open an ONNX file; see `open_exported`."""
    runtime = require("onnxruntime", "onnxruntime", f"{path}: running an ONNX model")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file.")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=_providers(runtime, device))
    except _failures(runtime) as error:
        raise WeightsError(f"{path}: not an ONNX model that this onnxruntime can run ({_first(error)}).") from error
    metadata = Metadata.from_text(session.get_modelmeta().custom_metadata_map, path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type not in TYPES or len(inputs[0].shape) != 4 or len(outputs) != 1:
        wanted = "one input (B, 3, H, W) of floats and one output"
        raise WeightsError(f"{path}: expected {wanted}, got {_described(inputs)} and {_described(outputs)}.")
    name, kind = inputs[0].name, TYPES[inputs[0].type]

    def run(images: Tensor) -> Tensor:
        (found,) = session.run(None, {name: images.cpu().numpy().astype(kind, copy=False)})
        return torch.from_numpy(found).float()

    return Opened(metadata, run)


def _failures(runtime: Any) -> tuple[type[Exception], ...]:
    """onnxruntime's kinds of error, which have no class of their own in common."""
    kinds = vars(runtime.capi.onnxruntime_pybind11_state).values()
    return tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))


def _providers(runtime: Any, device: str) -> list[Any]:
    if not device.startswith("cuda"):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise DeviceError(
            f"device={device}: this onnxruntime has no CUDA; use device=cpu, or pip install onnxruntime-gpu"
        )
    return [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}), "CPUExecutionProvider"]


def _described(values: Any) -> str:
    return ", ".join(f"{value.name} {value.type} {value.shape}" for value in values)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
