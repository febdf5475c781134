"""The numbers of every layer of a model: sizes of its maps, parameters, operations; from runs on the meta device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ultralytics.inspect.findings import Finding, find_faults
from ultralytics.inspect.kinds import kind_of
from ultralytics.inspect.usage import ParameterUse
from ultralytics.nn.measure import tensors
from ultralytics.nn.tasks import DetectionModel
from ultralytics.nn.unread import layer_sources
from ultralytics.utils.flops import IMAGE_SIZE, ModelInfo, count_operations, model_size, run_copy

Shape = tuple[int, ...]
IMAGE = -1  # number of the image among the sources


@dataclass(frozen=True)
class LayerRow:
    """One layer, as built.

    Attributes:
        index: its number in the model file; the last of five for a layer with several outputs.
        written: what it reads as the model keeps it, such as `-1` or `[-1, 12]`.
        sources: absolute numbers of the maps it reads; -1 is the image.
        numbers: the number of each of its outputs.
        name: the name the row gives it, or None.
        module: name of its class; ` x3` behind it where three copies stand in sequence.
        arguments: the constructor call.
        assumed: how its arguments were worked out if it did not register itself, else empty.
        inputs, outputs: sizes without the batch axis, (C, H, W) for a map. Of the last layer the predictions only.
        strides: pixels of the image for one position of each output, by height; None for an output that is no map.
        parameters: numbers it holds.
        flops: multiplications and additions for one image, by torch's counter: convolutions and matrix products.
        kind: what the pictures colour it by, see `kinds.py`.
        in_backbone: whether the file lists it under `backbone`.
        where: file and line.
    """

    index: int
    written: str
    sources: tuple[int, ...]
    numbers: tuple[int, ...]
    name: str | None
    module: str
    arguments: str
    assumed: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    strides: tuple[float | None, ...]
    parameters: int
    flops: int
    kind: str
    in_backbone: bool
    where: str


@dataclass(frozen=True)
class Inspection:
    """All that can be known of a model without running it.

    Attributes:
        rows: the layers in order.
        info: totals; `info.gflops` by thop, `info.gflops_attention` by torch's counter, the sum of the rows' `flops`.
        warnings: what deserves a second look, in the order of the layers.
        image: (C, H, W) of the image.
    """

    rows: tuple[LayerRow, ...]
    info: ModelInfo
    warnings: tuple[Finding, ...]
    image: Shape


@dataclass(frozen=True)
class _Run:
    """What one layer was given and returned in the run, and its operations."""

    inputs: list[Shape]
    outputs: list[Shape]
    flops: int


def inspect_model(model: DetectionModel, imgsz: int = IMAGE_SIZE) -> Inspection:
    """Measure a model in eval mode on one square image of `imgsz` pixels. The model itself is not run and not changed.

    Raises:
        ModelConfigError: the forward fails at this size; the message has its error.
    """
    runs, gflops, use = run_copy(model, imgsz, _run_layers)
    rows = tuple(_row(layer, run, imgsz, is_head=run is runs[-1]) for layer, run in zip(model.model, runs, strict=True))
    warnings = find_faults(rows, list(model.model), use)
    return Inspection(rows, model_size(model, gflops, imgsz), tuple(warnings), runs[0].inputs[0])


def _run_layers(twin: nn.Module, image: Tensor) -> tuple[list[_Run], tuple[float, float], ParameterUse]:
    """Run a copy of the model: what every layer does, in order, the operations of the whole, and what was used."""
    counter, use = FlopCounterMode(display=False), ParameterUse(twin.model[:-1])
    runs: list[_Run] = []

    def record(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        # Only the layers themselves have this hook, not what is in them, so nothing is counted twice.
        done = sum(run.flops for run in runs)
        runs.append(_Run(_shapes(inputs), _shapes(output), counter.get_total_flops() - done))

    for layer in twin.model:
        layer.register_forward_hook(record)
    with use:
        gflops = count_operations(twin, image, counter)
    return runs, gflops, use


def _shapes(value: Any) -> list[Shape]:
    """Sizes of all tensors in a value, without the batch axis."""
    return [tuple(tensor.shape[1:]) for tensor in tensors(value)]


def _row(layer: nn.Module, run: _Run, imgsz: int, is_head: bool) -> LayerRow:
    outputs = run.outputs[:1] if is_head else run.outputs
    copies = f" x{layer.repeats}" if layer.repeats > 1 else ""
    return LayerRow(
        index=layer.i,
        written=str(layer.f),
        sources=layer_sources(layer),
        numbers=tuple(range(layer.i - len(outputs) + 1, layer.i + 1)) if layer.slots > 1 else (layer.i,),
        name=layer.row_name,
        module=layer.row_module.removeprefix("torch.").removeprefix("nn.") + copies,
        arguments=layer.arguments,
        assumed=layer.assumed,
        inputs=tuple(run.inputs),
        outputs=tuple(outputs),
        strides=tuple(imgsz / shape[1] if len(shape) == 3 else None for shape in outputs),
        parameters=layer.np,
        flops=run.flops,
        kind=kind_of(layer, run.inputs, outputs, is_head),
        in_backbone=layer.in_backbone,
        where=layer.where,
    )
