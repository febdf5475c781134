"""TorchScript: a traced network, with the metadata as JSON in an extra file of the archive."""

import io
import json
from pathlib import Path

import torch
from torch import Tensor

from ultralytics.nn.formats.export_spec import ExportFormat, ExportSpec, ExportWrapper, RuntimeModel, silence
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import WeightsError
from ultralytics.utils.files import atomic_write, first_line, parse_json

METADATA_ENTRY = "config.txt"  # as published exporters name it


def export(spec: ExportSpec) -> Path:
    content = io.BytesIO()
    with silence():
        traced = torch.jit.trace(ExportWrapper(spec.network, half=spec.options.half), spec.example, check_trace=False)
        torch.jit.save(traced, content, _extra_files={METADATA_ENTRY: json.dumps(spec.metadata.as_text())})
    with atomic_write(spec.file) as file:
        file.write(content.getvalue())
    return spec.file


def load(path: Path, device: str, threads: int) -> RuntimeModel:
    """Load a TorchScript file; see `open_exported`. `threads` are those of torch itself."""
    LOGGER.info(f"{path}: a TorchScript file is a program; open only those of people you trust")
    entries = {METADATA_ENTRY: ""}
    try:
        with silence():
            network = torch.jit.load(str(path), map_location=device, _extra_files=entries).eval()
        content = parse_json(entries[METADATA_ENTRY] or "{}", METADATA_ENTRY)
    except Exception as error:  # whatever a damaged or hand-made program raises
        raise WeightsError(f"{path}: not a whole TorchScript file ({first_line(error)}).") from error

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images.to(device)).float()

    return RuntimeModel(Metadata.from_text(content, path), run)


FORMAT = ExportFormat("torchscript", (".torchscript",), export, load)
