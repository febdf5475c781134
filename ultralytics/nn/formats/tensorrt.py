"""Export to a TensorRT engine, on the CUDA GPU that is to run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.formats import Job
from ultralytics.nn.formats.metadata import Metadata, Opened
from ultralytics.nn.formats.onnx import INPUT, onnx_bytes
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, UserError, WeightsError
from ultralytics.utils.files import atomic_write

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


GIB = 1 << 30
LARGEST_BATCH = 16  # of a dynamic engine, unless batch= says more
SMALLEST_SIDE = 128  # pixels, of a dynamic engine; smaller images have fewer positions than the usual 300 queries


def export(job: Job) -> Path:
    """Write the job's file and return it.

    Raises:
        MissingPackageError: TensorRT is not installed.
        DeviceError: the network is not on a CUDA GPU.
        UserError: TensorRT cannot build the engine.
    """
    tensorrt = require("tensorrt", "tensorrt", "export to a TensorRT engine")
    device = next(job.network.parameters()).device
    if device.type != "cuda":
        raise DeviceError(f"format=engine: TensorRT builds on the CUDA GPU that runs the engine, got {device}")
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(_explicit_batch(tensorrt))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(onnx_bytes(job)):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise UserError(f"{job.file}: TensorRT {tensorrt.__version__} cannot read the model ({reasons}).")
    config = builder.create_builder_config()
    if job.options.workspace:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, int(job.options.workspace * GIB))
    if job.options.half:
        _allow_half(tensorrt, network, config)
    if job.options.dynamic:
        config.add_optimization_profile(_profile(builder, job))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UserError(
            f"{job.file}: TensorRT {tensorrt.__version__} could not build the engine; its messages are above. With "
            "little memory, try a smaller imgsz or batch, or set workspace= (GiB)."
        )
    said = json.dumps(job.metadata.as_text()).encode()
    with atomic_write(job.file) as file:
        file.write(len(said).to_bytes(4, "little") + said + bytes(engine))
    return job.file


def _explicit_batch(tensorrt: Any) -> int:
    """The flag that TensorRT before 10 needs, which is all that newer ones know."""
    flag = getattr(tensorrt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def _allow_half(tensorrt: Any, network: Any, config: Any) -> None:
    """float16 everywhere but in the head, whose boxes and feed-forward networks overflow there."""
    config.set_flag(tensorrt.BuilderFlag.FP16)
    config.set_flag(tensorrt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    last = max(
        int(part.removeprefix("model."))
        for index in range(network.num_layers)
        for part in network.get_layer(index).name.split("/")
        if part.startswith("model.") and part.removeprefix("model.").isdigit()
    )
    computing = (tensorrt.LayerType.MATRIX_MULTIPLY, tensorrt.LayerType.ELEMENTWISE, tensorrt.LayerType.NORMALIZATION)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        floating = layer.num_outputs and layer.get_output(0).dtype == tensorrt.float32
        if f"/model.{last}/" in layer.name and layer.type in computing and floating:
            layer.precision = tensorrt.float32
            layer.set_output_type(0, tensorrt.float32)


def _profile(builder: Any, job: Job) -> Any:
    """Sizes that a dynamic engine takes: from one image of SMALLEST_SIDE to a batch of twice the side."""
    batch, (height, width) = job.metadata.batch, job.metadata.imgsz
    smallest = (1, 3, min(SMALLEST_SIDE, height), min(SMALLEST_SIDE, width))
    largest = (max(batch, LARGEST_BATCH), 3, 2 * height, 2 * width)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, smallest, (batch, 3, height, width), largest)
    return profile
