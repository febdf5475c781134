"""Export to a TensorRT engine, on the CUDA GPU that is to run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ultralytics.engine.export import Job
from ultralytics.engine.export.onnx import INPUT, onnx_bytes
from ultralytics.utils.atomic import atomic_write
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, UserError

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
