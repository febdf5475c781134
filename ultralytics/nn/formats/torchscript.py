"""Export to TorchScript: a trace, with the metadata as JSON in an extra file."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from ultralytics.nn.formats import Job
from ultralytics.nn.formats.common import Traced, quiet_tracing
from ultralytics.nn.formats.metadata import Metadata, Opened
from ultralytics.utils.errors import WeightsError
from ultralytics.utils.files import atomic_write

METADATA_ENTRY = "config.txt"  # where published exporters keep it


def load(path: Path, *, device: str = "cpu", threads: int = 1) -> Opened:
    """Open a TorchScript file; see `open_exported`. The threads are those of torch."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file.")
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{path}: not a TorchScript file, or its end is missing.")
    entries = {METADATA_ENTRY: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch would rather have another format
            program = torch.jit.load(str(path), map_location=device, _extra_files=entries)
    except RuntimeError as error:
        raise WeightsError(f"{path}: not a TorchScript file ({str(error).strip().splitlines()[0]}).") from error
    try:
        said = json.loads(entries[METADATA_ENTRY] or "{}")
    except ValueError as error:
        raise WeightsError(f"{path}: its {METADATA_ENTRY} is not JSON ({error}).") from error
    metadata = Metadata.from_text(said, path)
    program.eval()

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return program(images.to(device)).float()

    return Opened(metadata, run)


def export(job: Job) -> Path:
    """Write the job's file and return it."""
    with quiet_tracing():
        program = torch.jit.trace(Traced(job.network, half=job.options.half), job.example, check_trace=False)
        content = io.BytesIO()
        torch.jit.save(program, content, _extra_files={METADATA_ENTRY: json.dumps(job.metadata.as_text())})
    with atomic_write(job.file) as file:
        file.write(content.getvalue())
    return job.file
