"""TensorRT engines, run by TensorRT on a CUDA GPU.

An engine file is what published exporters write: the length of the metadata (4 bytes, little-endian), the metadata as
JSON, the engine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.backends.metadata import Metadata, Opened
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, WeightsError

MOST_METADATA = 10_000_000  # bytes


def load(path: Path, *, device: str = "cpu", threads: int = 1) -> Opened:
    """Open an engine; see `open_exported`. It runs on the kind of GPU, and with the TensorRT, that built it."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file.")
    said, engine = split_engine(path.read_bytes(), path)
    metadata = Metadata.from_text(said, path)
    tensorrt = require("tensorrt", "tensorrt", f"{path}: running a TensorRT engine")
    if not device.startswith("cuda"):
        raise DeviceError(f"{path}: a TensorRT engine runs on a CUDA GPU, got device={device}; write device=0.")
    opened = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING)).deserialize_cuda_engine(engine)
    if opened is None:
        raise WeightsError(
            f"{path}: TensorRT {tensorrt.__version__} cannot open it here; an engine belongs to the GPU and the "
            "version that built it. Export it again on this machine."
        )
    return Opened(metadata, _Runner(tensorrt, opened, torch.device(device)))


def split_engine(content: bytes, where: Path) -> tuple[dict[str, Any], bytes]:
    """The metadata and the engine in the content of a file. Raises WeightsError where there is no metadata."""
    length = int.from_bytes(content[:4], "little")
    try:
        if not 2 <= length <= min(MOST_METADATA, len(content)):
            raise ValueError("there is none")
        return json.loads(content[4 : 4 + length]), content[4 + length :]
    except ValueError as error:
        raise WeightsError(
            f"{where}: the metadata in front of a TensorRT engine cannot be read ({error}); expected a file of "
            "`yolo export format=engine`."
        ) from error


class _Runner:
    """Binds torch's memory to the engine's input and output and runs it on torch's current stream."""

    def __init__(self, tensorrt: Any, engine: Any, device: torch.device):
        self.context, self.device = engine.create_execution_context(), device
        kinds = {tensorrt.TensorIOMode.INPUT: [], tensorrt.TensorIOMode.OUTPUT: []}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            kinds[engine.get_tensor_mode(name)].append(name)
        (self.input,), (self.output,) = kinds.values()
        half = engine.get_tensor_dtype(self.input) == tensorrt.DataType.HALF
        self.dtype = torch.float16 if half else torch.float32
        half = engine.get_tensor_dtype(self.output) == tensorrt.DataType.HALF
        self.output_dtype = torch.float16 if half else torch.float32

    def __call__(self, images: Tensor) -> Tensor:
        images = images.to(self.device, self.dtype).contiguous()
        self.context.set_input_shape(self.input, tuple(images.shape))
        found = torch.empty(
            tuple(self.context.get_tensor_shape(self.output)), dtype=self.output_dtype, device=self.device
        )
        self.context.set_tensor_address(self.input, images.data_ptr())
        self.context.set_tensor_address(self.output, found.data_ptr())
        self.context.execute_async_v3(torch.cuda.current_stream(self.device).cuda_stream)
        return found.float()
