"""Export to OpenVINO: a folder with .xml, .bin and metadata.yaml; int8 by NNCF."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from ultralytics.engine.export import Job
from ultralytics.engine.export.onnx import head_prefix, onnx_bytes
from ultralytics.engine.export.quiet import only_errors
from ultralytics.nn.backends.openvino import METADATA_FILE
from ultralytics.utils.checks import require


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
