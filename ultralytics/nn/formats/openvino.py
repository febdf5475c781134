"""OpenVINO: a folder with .xml, .bin and metadata.yaml; int8 by NNCF."""

import io
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ultralytics.cfg.plain_data import read_yaml
from ultralytics.nn.formats.export_spec import ExportFormat, ExportSpec, RuntimeModel, silence
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.nn.formats.onnx import head_prefix, onnx_bytes
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, WeightsError
from ultralytics.utils.files import first_line, list_files, write_yaml

METADATA_FILE = "metadata.yaml"
SUFFIX = "_openvino_model"  # of the folder, as published exporters name it


def export(spec: ExportSpec) -> Path:
    """Convert the ONNX model and write the folder of `spec`. With `half` the weights are stored in float16."""
    openvino = require("openvino", "openvino", "export to OpenVINO")
    model = openvino.convert_model(io.BytesIO(onnx_bytes(spec)))
    if spec.options.int8:
        model = _quantize(model, spec)
    shutil.rmtree(spec.file, ignore_errors=True)  # a previous export
    spec.file.mkdir(parents=True)
    name = f"{spec.file.name.removesuffix(SUFFIX)}.xml"
    openvino.save_model(model, spec.file / name, compress_to_fp16=spec.options.half)
    write_yaml(spec.file / METADATA_FILE, spec.metadata.as_text())
    return spec.file


def _quantize(model: Any, spec: ExportSpec) -> Any:
    """Quantize convolutions and matrix products outside the head to int8."""
    nncf = require("nncf", "nncf", "int8 export to OpenVINO")
    batches = spec.calibration.split(spec.metadata.batch)
    head = nncf.IgnoredScope(patterns=[f"^{re.escape(head_prefix(spec))}.*"], validate=False)
    dataset = nncf.Dataset(batches, lambda batch: batch.numpy())
    with silence():  # it lists every node of the head
        return nncf.quantize(model, dataset, subset_size=len(batches), ignored_scope=head)


def load(path: Path, device: str, threads: int) -> RuntimeModel:
    """Load the folder of an OpenVINO model, or the .xml in it; see `open_exported`."""
    openvino = require("openvino", "openvino", f"{path}: running an OpenVINO model")
    if device != "cpu":
        raise DeviceError(f"device={device}: OpenVINO models run on the CPU only; use device=cpu")
    folder = path if path.is_dir() else path.parent
    files = list_files(folder, (".xml",), recursive=False) if path.is_dir() else [path]
    if len(files) != 1:
        raise WeightsError(f"{path}: expected a folder with one .xml and its .bin, found {len(files)} .xml.")
    metadata = Metadata.from_text(read_yaml(folder / METADATA_FILE, WeightsError), folder / METADATA_FILE)
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    # By default OpenVINO rounds to bfloat16 if the processor supports it, so that NMS would keep other boxes.
    if metadata.precision != "float16" or metadata.nms:
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(files[0]), "CPU", settings)
    except Exception as error:  # its errors have no base class
        raise WeightsError(f"{files[0]}: OpenVINO cannot run it ({first_line(error)}).") from error
    request, output = compiled.create_infer_request(), compiled.output(0)

    def run(images: Tensor) -> Tensor:
        request.infer([images.cpu().numpy()], share_inputs=True)
        return torch.from_numpy(request.get_tensor(output).data.copy()).float()

    return RuntimeModel(metadata, run)


FORMAT = ExportFormat(
    "openvino", (SUFFIX, ".xml"), export, load, int8=True, nms=True, requires="openvino onnx", reads=("opset",)
)
