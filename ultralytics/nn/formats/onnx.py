"""ONNX, run by onnxruntime; int8 by onnxruntime's static quantization."""

import inspect
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.nn.formats.export_spec import ExportFormat, ExportSpec, ExportWrapper, RuntimeModel, silence
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.nn.head_protocol import ANCHORS, END2END
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, OptionError, WeightsError
from ultralytics.utils.files import atomic_write, first_line

OPSET = 17  # grid sampling and layer normalization; supported by every current runtime
INPUT, OUTPUT = "images", "output0"


def export(spec: ExportSpec) -> Path:
    onnx = require("onnx", "onnx", "export to ONNX")
    model = onnx.load_from_string(onnx_bytes(spec, half=spec.options.half))
    if spec.options.simplify:
        model = require("onnxslim", "onnxslim", "export with simplify=True").slim(model)
    if spec.options.int8:
        model = _quantize(model, spec)
    onnx.helper.set_model_props(model, spec.metadata.as_text())
    with atomic_write(spec.file) as file:
        file.write(model.SerializeToString())
    return spec.file


def onnx_bytes(spec: ExportSpec, *, half: bool = False) -> bytes:
    """Trace the network, and return the serialized ONNX model without metadata.

    Raises:
        OptionError: `opset` lacks operators of the network.
    """
    require("onnx", "onnx", "export to ONNX")
    opset = spec.options.opset or OPSET
    axes = {INPUT: {0: "batch", 2: "height", 3: "width"}, OUTPUT: {0: "batch"}} if spec.options.dynamic else None
    if axes and spec.metadata.layout in (ANCHORS, END2END):
        axes[OUTPUT] |= {2: "anchors"} if spec.metadata.layout == ANCHORS else {1: "detections"}
    network = ExportWrapper(spec.network, half=half, nms=spec.nms)
    given = {"input_names": [INPUT], "output_names": [OUTPUT], "opset_version": opset, "dynamic_axes": axes}
    try:
        return trace_onnx(network, (spec.example,), **given)
    except torch.onnx.errors.UnsupportedOperatorError as error:
        raise OptionError(f"opset={opset}: {first_line(error)}. The default is {OPSET}.") from error


def trace_onnx(module: nn.Module, inputs: tuple[Any, ...], **given: Any) -> bytes:
    """Return the serialized ONNX model of a module, with further arguments of `torch.onnx.export`."""
    # Use the tracing exporter: torch's newer one needs another package, and older versions of torch have no choice.
    tracing = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    content = io.BytesIO()
    with silence():
        torch.onnx.export(module, inputs, content, **given, **tracing)
    return content.getvalue()


def head_prefix(spec: ExportSpec) -> str:
    """Return the start of the names of the head's nodes. int8 would destroy the boxes of the head."""
    return f"/network/model.{len(spec.network.model) - 1}/"


def _quantize(model: Any, spec: ExportSpec) -> Any:
    """Quantize convolutions outside the head to int8. Activation ranges come from the calibration images."""
    onnx = require("onnx", "onnx", "export to ONNX")
    quantization = require("onnxruntime.quantization", "onnxruntime", "int8 export to ONNX")
    batches = iter(spec.calibration.split(spec.metadata.batch))

    class CalibrationImages(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    head = [node.name for node in model.graph.node if node.name.startswith(head_prefix(spec))]
    with tempfile.TemporaryDirectory() as folder, silence():
        float32, prepared, int8 = (str(Path(folder) / f"{name}.onnx") for name in ("float32", "prepared", "int8"))
        onnx.save(model, float32)
        quantization.shape_inference.quant_pre_process(float32, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, int8, CalibrationImages(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=["Conv"], nodes_to_exclude=head,
        )  # fmt: skip
        return onnx.load(int8)


def load(path: Path, device: str, threads: int) -> RuntimeModel:
    """Load an ONNX file; see `open_exported`."""
    runtime = require("onnxruntime", "onnxruntime", f"{path}: running an ONNX model")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    providers = _providers(runtime, device)
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers)
        entries, images_input = session.get_modelmeta().custom_metadata_map, session.get_inputs()[0]
    except Exception as error:  # those of onnxruntime have no base class
        raise WeightsError(f"{path}: onnxruntime cannot run it as an ONNX model ({first_line(error)}).") from error
    metadata = Metadata.from_text(entries, path)
    expected = (metadata.batch, 3, *metadata.imgsz)
    found = images_input.shape
    fixed = [side for side in found if isinstance(side, int)]
    if len(found) != 4 or (not metadata.dynamic and len(fixed) == 4 and tuple(found) != expected):
        raise WeightsError(f"{path}: its input is {found}, but its metadata states {list(expected)}.")
    dtype = np.float16 if images_input.type == "tensor(float16)" else np.float32  # float16 of published exporters

    def run(images: Tensor) -> Tensor:
        output = session.run(None, {images_input.name: images.cpu().numpy().astype(dtype, copy=False)})[0]
        return torch.from_numpy(output).float()

    return RuntimeModel(metadata, run)


def _providers(runtime: Any, device: str) -> list[Any]:
    if not device.startswith("cuda"):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise DeviceError(f"device={device}: onnxruntime has no CUDA; use device=cpu, or pip install onnxruntime-gpu")
    return [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}), "CPUExecutionProvider"]


FORMAT = ExportFormat(
    "onnx", (".onnx",), export, load, int8=True, nms=True, requires="onnx onnxruntime", reads=("opset", "simplify")
)
