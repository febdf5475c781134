"""TensorRT 10 or newer: an engine, built on the CUDA GPU that runs it, after the metadata as JSON and its length."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.formats.export_spec import ExportFormat, ExportSpec, RuntimeModel
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.nn.formats.onnx import INPUT, OUTPUT, onnx_bytes
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, UserError, WeightsError
from ultralytics.utils.files import atomic_write, parse_json

GIB = 1 << 30
MAX_BATCH = 16  # of a dynamic engine, unless `batch` is larger
MIN_SIDE = 128  # pixels, of a dynamic engine; smaller images have fewer positions than the usual 300 queries


def export(spec: ExportSpec) -> Path:
    """Build an engine from the ONNX model and write the file of `spec`. Raise UserError if TensorRT cannot."""
    tensorrt = require("tensorrt", "tensorrt>=10", "export to a TensorRT engine")
    if not next(spec.network.parameters()).is_cuda:
        raise DeviceError("format=engine: TensorRT builds on the CUDA GPU that runs the engine; use device=0")
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    # Strongly typed: precisions are those of the ONNX model, with the head in float32.
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(onnx_bytes(spec, half=spec.options.half)):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise UserError(f"{spec.file}: TensorRT {tensorrt.__version__} cannot read the model ({reasons}).")
    config = builder.create_builder_config()
    if spec.options.workspace:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, int(spec.options.workspace * GIB))
    if spec.options.dynamic:
        batch, (height, width) = spec.metadata.batch, spec.metadata.imgsz
        smallest = (1, 3, min(MIN_SIDE, height), min(MIN_SIDE, width))
        largest = (max(batch, MAX_BATCH), 3, 2 * height, 2 * width)
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, smallest, (batch, 3, height, width), largest)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        hint = "see its messages; if memory is short, try a smaller imgsz or batch, or set workspace= (GiB)"
        raise UserError(f"{spec.file}: TensorRT {tensorrt.__version__} could not build the engine, {hint}.")
    metadata = json.dumps(spec.metadata.as_text()).encode()
    with atomic_write(spec.file) as file:
        file.write(len(metadata).to_bytes(4, "little") + metadata + bytes(engine))
    return spec.file


def load(path: Path, device: str, threads: int) -> RuntimeModel:
    """Load an engine; see `open_exported`. It needs the kind of GPU and the TensorRT version that built it."""
    entries, engine = split_engine(path.read_bytes(), path)
    metadata = Metadata.from_text(entries, path)
    LOGGER.info(f"{path}: a TensorRT engine is a program; open only those of people you trust")
    tensorrt = require("tensorrt", "tensorrt>=10", f"{path}: running a TensorRT engine")
    if not device.startswith("cuda"):
        raise DeviceError(f"{path}: a TensorRT engine runs on a CUDA GPU, got device={device}; use device=0.")
    loaded = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING)).deserialize_cuda_engine(engine)
    if loaded is None:
        version = f"TensorRT {tensorrt.__version__}"
        raise WeightsError(f"{path}: {version} on this GPU cannot open it; export it again on this machine.")
    context = loaded.create_execution_context()

    def run(images: Tensor) -> Tensor:
        """Run on torch's memory and current stream. Input and output are float32, also with `half`."""
        images = images.to(device).contiguous()
        context.set_input_shape(INPUT, tuple(images.shape))
        output = torch.empty(tuple(context.get_tensor_shape(OUTPUT)), device=device)
        context.set_tensor_address(INPUT, images.data_ptr())
        context.set_tensor_address(OUTPUT, output.data_ptr())
        context.execute_async_v3(torch.cuda.current_stream(images.device).cuda_stream)
        return output

    return RuntimeModel(metadata, run)


def split_engine(content: bytes, where: Path) -> tuple[dict[str, Any], bytes]:
    """Split the content of a file into metadata and engine. Raise WeightsError if there is no metadata."""
    end = 4 + int.from_bytes(content[:4], "little")
    kind = f"{where}: not a file of `yolo export format=engine`"
    return parse_json(content[4:end], kind, WeightsError), content[end:]


FORMAT = ExportFormat(
    "engine", (".engine",), export, load, needs_gpu=True, requires='"tensorrt>=10" onnx', reads=("opset", "workspace")
)
