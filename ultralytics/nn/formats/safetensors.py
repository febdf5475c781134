"""safetensors: the weights, and the model file in the header. `RTDETR(file)` builds the model from it."""

from pathlib import Path

import torch

from ultralytics.nn.formats.export_spec import ExportFormat, ExportSpec
from ultralytics.utils.checks import require
from ultralytics.utils.files import atomic_write


def export(spec: ExportSpec) -> Path:
    """Write the file of `spec`. With `half` the weights are stored in float16."""
    library = require("safetensors.torch", "safetensors", "export to safetensors")
    tensors = {name: value.contiguous().clone() for name, value in spec.network.state_dict().items()}
    if spec.options.half:
        tensors = {n: t.to(torch.float16) if t.is_floating_point() else t for n, t in tensors.items()}
    with atomic_write(spec.file) as file:
        file.write(library.save(tensors, metadata=spec.metadata.as_text()))
    return spec.file


FORMAT = ExportFormat("safetensors", (".safetensors",), export, dynamic=False, requires="safetensors")
