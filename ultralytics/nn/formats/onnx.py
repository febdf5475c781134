"""Export to ONNX, and int8 by onnxruntime's static quantisation."""

from __future__ import annotations

import inspect
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ultralytics.nn.formats import Job
from ultralytics.nn.formats.common import Traced, only_errors, quiet_tracing
from ultralytics.nn.formats.metadata import Metadata, Opened
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, OptionError, WeightsError
from ultralytics.utils.files import atomic_write

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


OPSET = 17  # has grid sampling and layer normalisation, and is read by every runtime of the last years
OLDEST = 16  # grid sampling
INPUT, OUTPUT = "images", "output0"


def export(job: Job) -> Path:
    """Write the job's file and return it. Raises OptionError for an opset without the operators that are needed."""
    onnx = require("onnx", "onnx", "export to ONNX")
    model = onnx.load_from_string(onnx_bytes(job, half=job.options.half))
    if job.options.simplify:
        model = require("onnxslim", "onnxslim", "export with simplify=True").slim(model)
    if job.options.int8:
        model = _quantised(model, job)
    del model.metadata_props[:]
    for key, value in job.metadata.as_text().items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    with atomic_write(job.file) as file:
        file.write(model.SerializeToString())
    return job.file


def onnx_bytes(job: Job, *, half: bool = False) -> bytes:
    """The network as an ONNX model, without metadata."""
    require("onnx", "onnx", "export to ONNX")
    opset = job.options.opset or OPSET
    if opset < OLDEST:
        raise OptionError(f"opset={opset}: RT-DETR's attention needs {OLDEST} or newer; leave it out for {OPSET}.")
    names = {INPUT: {0: "batch", 2: "height", 3: "width"}, OUTPUT: {0: "batch"}} if job.options.dynamic else None
    # The tracing exporter: torch's newer one needs a further package, and an old torch has no choice.
    tracing = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    content = io.BytesIO()
    with quiet_tracing():
        torch.onnx.export(
            Traced(job.network, half=half), (job.example,), content, input_names=[INPUT], output_names=[OUTPUT],
            opset_version=opset, dynamic_axes=names, **tracing,
        )  # fmt: skip
    return content.getvalue()


def head_prefix(job: Job) -> str:
    """How the names of the head's nodes begin, which stay in float: int8 would destroy its boxes."""
    return f"/network/model.{len(job.network.model) - 1}/"


def _quantised(model: object, job: Job) -> object:
    """The model with int8 convolutions; ranges of activations come from the calibration images."""
    onnx = require("onnx", "onnx", "export to ONNX")
    runtime = require("onnxruntime.quantization", "onnxruntime", "int8 export to ONNX")
    prefix = head_prefix(job)

    class Images(runtime.CalibrationDataReader):
        """One image at a time, as the batch of the model wants it."""

        def __init__(self) -> None:
            self.left: Iterator[torch.Tensor] = iter(job.calibration.split(job.metadata.batch))

        def get_next(self) -> dict | None:
            group = next(self.left, None)
            full = group is not None and (job.options.dynamic or len(group) == job.metadata.batch)
            return {INPUT: group.numpy()} if full else None

    kept = [node.name for node in model.graph.node if node.name.startswith(prefix)]
    with tempfile.TemporaryDirectory() as folder, only_errors():  # it recommends what has been considered
        float32, prepared, int8 = (Path(folder) / f"{name}.onnx" for name in ("float32", "prepared", "int8"))
        onnx.save(model, float32)
        runtime.shape_inference.quant_pre_process(str(float32), str(prepared), skip_symbolic_shape=True)
        runtime.quantize_static(
            str(prepared), str(int8), Images(), quant_format=runtime.QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=["Conv"], nodes_to_exclude=kept,
        )  # fmt: skip
        return onnx.load(int8)
