"""Checks of export: 11 TorchScript, 12 ONNX. Both trace the module, and have to compute what it computes."""

from __future__ import annotations

import importlib.util
import inspect
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from ultralytics.nn.contract.report import Fault, NotApplicable
from ultralytics.nn.contract.subject import Subject, difference

BOUND = 1e-4  # relative to the largest value
OPSET = 17  # has grid sampling and layer normalisation, and is read by every runtime of the last years
ONNX_PACKAGES = ("onnx", "onnxruntime")


class _Flat(nn.Module):
    """A layer with one argument for each map and a tuple of maps as its output, as the tracers want them."""

    def __init__(self, subject: Subject, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.subject = subject

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.subject.run_openly(self.layer, list(maps)))


def check_torchscript(subject: Subject) -> str:
    """Traced by TorchScript it gives what it gives itself, for an input other than the traced one."""
    layer = _Flat(subject, subject.build()).eval()
    inputs, other = tuple(subject.inputs(seed=0)), tuple(subject.inputs(seed=1))
    with torch.no_grad():
        traced = torch.jit.trace(layer, inputs, check_trace=False)
        gap = difference(traced(*other), layer(*other))
    if gap > BOUND:
        raise Fault(f"the traced module's output differs by {gap:.1e} of the largest value")
    return f"traced: differs by {gap:.1e} of the largest value"


def check_onnx(subject: Subject) -> str:
    """Exported to ONNX and run by onnxruntime it gives what it gives itself, for an input other than the traced one."""
    missing = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise NotApplicable(f"{' and '.join(missing)} not installed: pip install {' '.join(missing)}")
    import onnxruntime

    layer = _Flat(subject, subject.build()).eval()
    inputs, other = tuple(subject.inputs(seed=0)), tuple(subject.inputs(seed=1))
    names = [f"x{i}" for i in range(len(inputs))]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = str(Path(folder) / "module.onnx")
        # The tracing exporter: torch's newer one takes longer and a further package; an old one has no choice.
        tracing = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
        torch.onnx.export(layer, inputs, file, input_names=names, opset_version=OPSET, **tracing)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        read = {node.name for node in session.get_inputs()}  # an input that nothing reads is dropped
        fed = {name: x.numpy() for name, x in zip(names, other, strict=True) if name in read}
        found = [torch.from_numpy(y) for y in session.run(None, fed)]
        gap = difference(found, layer(*other))
    if gap > BOUND:
        raise Fault(f"onnxruntime's output differs by {gap:.1e} of the largest value")
    return f"opset {OPSET}: differs by {gap:.1e} of the largest value"
