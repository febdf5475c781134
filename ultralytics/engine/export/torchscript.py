"""Export to TorchScript: a trace, with the metadata as JSON in an extra file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch

from ultralytics.engine.export import Job
from ultralytics.engine.export.quiet import quiet_tracing
from ultralytics.engine.export.traced import Traced
from ultralytics.nn.backends.torchscript import METADATA_ENTRY
from ultralytics.utils.atomic import atomic_write


def export(job: Job) -> Path:
    """Write the job's file and return it."""
    with quiet_tracing():
        program = torch.jit.trace(Traced(job.network, half=job.options.half), job.example, check_trace=False)
        content = io.BytesIO()
        torch.jit.save(program, content, _extra_files={METADATA_ENTRY: json.dumps(job.metadata.as_text())})
    with atomic_write(job.file) as file:
        file.write(content.getvalue())
    return job.file
