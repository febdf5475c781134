"""Checks of export: torchscript, onnx. Both trace the module, and have to compute what it computes."""

from __future__ import annotations

import importlib.util
import inspect
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ultralytics.nn.module_check.module_under_test import Subject, difference
from ultralytics.nn.module_check.report_module import Fault, NotApplicable
from ultralytics.nn.module_check.source_lines import line_of_forward

BOUND = 1e-4  # relative to the largest value
OPSET = 17  # has grid sampling and layer normalisation, and is read by every runtime of the last years
STDOUT = 1  # the file descriptor
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
    with torch.no_grad(), _fixed_lines(subject) as lines:
        traced = torch.jit.trace(layer, inputs, check_trace=False)
        gap = difference(traced(*_copied(other)), layer(*_copied(other)))
    _compare("the traced module's", gap, lines, subject, layer)
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
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), _fixed_lines(subject) as lines:
        file = str(Path(folder) / "module.onnx")
        # The tracing exporter: torch's newer one takes longer and a further package; an old one has no choice.
        tracing = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
        with _quiet_exporter():
            torch.onnx.export(layer, inputs, file, input_names=names, opset_version=OPSET, **tracing)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        read = {node.name for node in session.get_inputs()}  # an input that nothing reads is dropped
        fed = {name: x.numpy() for name, x in zip(names, other, strict=True) if name in read}
        found = [torch.from_numpy(y) for y in session.run(None, fed)]
        gap = difference(found, layer(*_copied(other)))
    _compare("onnxruntime's", gap, lines, subject, layer)
    return f"opset {OPSET}: differs by {gap:.1e} of the largest value"


def _copied(inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Copies, as a forward may write into its inputs, which is the check `inputs`' to tell."""
    return [x.clone() for x in inputs]


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep out of the table the graph that the exporter writes, past `sys.stdout`, for an operator it does not know."""
    kept = os.dup(STDOUT)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), STDOUT)
    try:
        yield
    finally:
        os.dup2(kept, STDOUT)
        os.close(kept)


@contextmanager
def _fixed_lines(subject: Subject) -> Iterator[list[int]]:
    """Lines of the module's file whose outcome the tracer warns that it keeps, whatever the input; full at the end."""
    lines: list[int] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", torch.jit.TracerWarning)
        yield lines
    lines += [w.lineno for w in caught if w.filename == subject.entry.origin]


def _compare(whose: str, gap: float, lines: list[int], subject: Subject, layer: nn.Module) -> None:
    if gap > BOUND:
        hint = "; the trace keeps what this line found for another input" if lines else ""
        line = lines[0] if lines else line_of_forward(layer, subject.entry.origin)
        raise Fault(f"{whose} output differs by {gap:.1e} of the largest value{hint}", line)
