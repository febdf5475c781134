"""OpenVINO models, run by OpenVINO."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ultralytics.nn.backends.metadata import Metadata, Opened
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
