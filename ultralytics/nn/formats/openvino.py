"""Export to OpenVINO: a folder with .xml, .bin and metadata.yaml; int8 by NNCF."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ultralytics.nn.formats import Job
from ultralytics.nn.formats.common import only_errors
from ultralytics.nn.formats.metadata import Metadata, Opened
from ultralytics.nn.formats.onnx import head_prefix, onnx_bytes
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DeviceError, WeightsError
from ultralytics.utils.files import read_yaml

METADATA_FILE = "metadata.yaml"


def load(path: Path, *, device: str = "cpu", threads: int = 1) -> Opened:
    """Open the folder of an OpenVINO model, or the .xml in it; see `open_exported`."""
    openvino = require("openvino", "openvino", f"{path}: running an OpenVINO model")
    if device != "cpu":
        raise DeviceError(f"device={device}: OpenVINO runs on the CPU here; use device=cpu")
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob("*.xml")) if path.is_dir() else [path]
    if len(files) != 1 or not files[0].is_file():
        raise WeightsError(f"{path}: expected a folder with one .xml and its .bin, found {len(files)} of them.")
    if not (folder / METADATA_FILE).is_file():
        raise WeightsError(f"{path}: has no {METADATA_FILE}; expected a model written by `yolo export`.")
    metadata = Metadata.from_text(read_yaml(folder / METADATA_FILE), folder / METADATA_FILE)
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if metadata.precision != "float16":  # where the processor could, OpenVINO would round to bfloat16 unasked
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    try:
        compiled = core.compile_model(core.read_model(files[0]), "CPU", settings)
    except RuntimeError as error:
        raise WeightsError(f"{files[0]}: OpenVINO cannot run it ({str(error).splitlines()[0]}).") from error
    request, output = compiled.create_infer_request(), compiled.output(0)

    def run(images: Tensor) -> Tensor:
        request.infer([images.cpu().numpy()], share_inputs=True)
        return torch.from_numpy(request.get_tensor(output).data.copy()).float()

    return Opened(metadata, run)


def export(job: Job) -> Path:
    """Write the job's folder and return it. With `half` the weights are stored in float16."""
    openvino = require("openvino", "openvino", "export to OpenVINO")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "model.onnx"
        source.write_bytes(onnx_bytes(job))
        model = openvino.convert_model(source)
        if job.options.int8:
            model = _quantised(model, job)
        made = Path(scratch) / "made"
        made.mkdir()
        name = job.file.name.removesuffix("_openvino_model")
        openvino.save_model(model, made / f"{name}.xml", compress_to_fp16=job.options.half)
        (made / METADATA_FILE).write_text(yaml.safe_dump(job.metadata.as_text(), allow_unicode=True), encoding="utf-8")
        shutil.rmtree(job.file, ignore_errors=True)  # of an export before
        job.file.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(str(made), job.file)
    return job.file


def _quantised(model: Any, job: Job) -> Any:
    """The model with int8 convolutions and products outside the head."""
    nncf = require("nncf", "nncf", "int8 export to OpenVINO")
    groups = [group for group in job.calibration.split(job.metadata.batch) if len(group) == job.metadata.batch]
    head = nncf.IgnoredScope(patterns=[f"^{re.escape(head_prefix(job))}.*"], validate=False)
    dataset = nncf.Dataset(groups, lambda group: group.numpy())
    with only_errors("nncf"):  # it tells of every node of the head
        return nncf.quantize(model, dataset, subset_size=len(groups), ignored_scope=head)
