"""Export to safetensors: the weights, and in the header the model file they belong to. `RTDETR(file)` reads it."""

from __future__ import annotations

from pathlib import Path

import torch

from ultralytics.nn.formats import Job
from ultralytics.utils.checks import require
from ultralytics.utils.files import atomic_write


def export(job: Job) -> Path:
    """Write the job's file and return it. The network is not folded; with `half` its weights are stored in float16."""
    library = require("safetensors.torch", "safetensors", "export to safetensors")
    tensors = {name: value.contiguous().clone() for name, value in job.network.state_dict().items()}
    if job.options.half:
        tensors = {n: t.to(torch.float16) if t.is_floating_point() else t for n, t in tensors.items()}
    with atomic_write(job.file) as file:
        file.write(library.save(tensors, metadata=job.metadata.as_text()))
    return job.file
