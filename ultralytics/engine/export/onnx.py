"""Export to ONNX, and int8 by onnxruntime's static quantisation."""

from __future__ import annotations

import inspect
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from ultralytics.engine.export import Job
from ultralytics.engine.export.quiet import only_errors, quiet_tracing
from ultralytics.engine.export.traced import Traced
from ultralytics.utils.atomic import atomic_write
from ultralytics.utils.checks import require
from ultralytics.utils.errors import OptionError

OPSET = 17  # has grid sampling and layer normalisation, and is read by every runtime of the last years
OLDEST = 16  # grid sampling
INPUT, OUTPUT = "images", "output0"


def export(job: Job) -> Path:
    """Write the job's file and return it. Raises OptionError for an opset without the operators that are needed."""
    onnx = require("onnx", "onnx", "export to ONNX")
    model = onnx.load_from_string(onnx_bytes(job, half=job.options.half))
    if job.options.simplify:
        model = require("onnxslim", "onnxslim", "export with simplify=True").slim(model)
    if job.options.int8:
        model = _quantised(model, job)
    del model.metadata_props[:]
    for key, value in job.metadata.as_text().items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    with atomic_write(job.file) as file:
        file.write(model.SerializeToString())
    return job.file


def onnx_bytes(job: Job, *, half: bool = False) -> bytes:
    """The network as an ONNX model, without metadata."""
    require("onnx", "onnx", "export to ONNX")
    opset = job.options.opset or OPSET
    if opset < OLDEST:
        raise OptionError(f"opset={opset}: RT-DETR's attention needs {OLDEST} or newer; leave it out for {OPSET}.")
    names = {INPUT: {0: "batch", 2: "height", 3: "width"}, OUTPUT: {0: "batch"}} if job.options.dynamic else None
    # The tracing exporter: torch's newer one needs a further package, and an old torch has no choice.
    tracing = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    content = io.BytesIO()
    with quiet_tracing():
        torch.onnx.export(
            Traced(job.network, half=half), (job.example,), content, input_names=[INPUT], output_names=[OUTPUT],
            opset_version=opset, dynamic_axes=names, **tracing,
        )  # fmt: skip
    return content.getvalue()


def head_prefix(job: Job) -> str:
    """How the names of the head's nodes begin, which stay in float: int8 would destroy its boxes."""
    return f"/network/model.{len(job.network.model) - 1}/"


def _quantised(model: object, job: Job) -> object:
    """The model with int8 convolutions; ranges of activations come from the calibration images."""
    onnx = require("onnx", "onnx", "export to ONNX")
    runtime = require("onnxruntime.quantization", "onnxruntime", "int8 export to ONNX")
    prefix = head_prefix(job)

    class Images(runtime.CalibrationDataReader):
        """One image at a time, as the batch of the model wants it."""

        def __init__(self) -> None:
            self.left: Iterator[torch.Tensor] = iter(job.calibration.split(job.metadata.batch))

        def get_next(self) -> dict | None:
            group = next(self.left, None)
            full = group is not None and (job.options.dynamic or len(group) == job.metadata.batch)
            return {INPUT: group.numpy()} if full else None

    kept = [node.name for node in model.graph.node if node.name.startswith(prefix)]
    with tempfile.TemporaryDirectory() as folder, only_errors():  # it recommends what has been considered
        float32, prepared, int8 = (Path(folder) / f"{name}.onnx" for name in ("float32", "prepared", "int8"))
        onnx.save(model, float32)
        runtime.shape_inference.quant_pre_process(str(float32), str(prepared), skip_symbolic_shape=True)
        runtime.quantize_static(
            str(prepared), str(int8), Images(), quant_format=runtime.QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=["Conv"], nodes_to_exclude=kept,
        )  # fmt: skip
        return onnx.load(int8)
