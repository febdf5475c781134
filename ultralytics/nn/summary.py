"""Layer table of a model: shapes, strides, parameters and FLOPs of each row, and warnings about likely mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ultralytics.nn.parser import layer_sources, unread_layers
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.flops import IMAGE_SIZE, ModelInfo, count_operations, flatten_tensors, model_size, run_copy
from ultralytics.utils.tables import Cell, Column, Table

Shape = tuple[int, ...]
KINDS = ("backbone", "convolution", "attention", "fusion", "sampling", "other", "head")
IMAGE = -1  # the image, among the sources of a row
CHANNEL_STEP = 8  # channels per GPU instruction in half precision
ARGUMENTS_WIDTH = 40  # characters in the table; layers.csv has all of them

_ATTENTION_WORDS = ("attention", "attn", "aifi", "transformer", "mhsa")  # in class names
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
_SIZE_QUERIES = {Tensor.numel, Tensor.nelement, Tensor.size, Tensor.dim, Tensor.shape.__get__, Tensor.ndim.__get__}


@dataclass(frozen=True)
class LayerRow:
    """One layer as built. Shapes have no batch axis: (C, H, W) for a map.

    Attributes:
        index: number in the model file; the last of five for a layer with several outputs.
        written: `from` of the row, such as `-1` or `[-1, 12]`.
        sources: absolute numbers of the maps it reads; IMAGE is the image.
        numbers: number of each output.
        name: name of the row, or None.
        module: class name, with ` x3` for three copies in sequence.
        arguments: constructor arguments.
        assumed: how its arguments were inferred if the module did not register itself, else "".
        inputs, outputs: shapes; of the last layer only the predictions.
        strides: image height / map height of each output; None if it is no map.
        parameters: number of parameters.
        flops: multiplications and additions for one image by torch's counter.
        kind: one of KINDS.
        in_backbone: True if it is listed under `backbone`.
        where: file and line.
        unread: parameters that forward does not use in eval mode; empty for the last layer.
        single_value: batch normalizations with one value per channel and image; empty for the last layer.
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
    unread: tuple[str, ...] = ()
    single_value: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """Layer table of a model.

    Attributes:
        rows: layers in order.
        info: totals; `info.gflops` by thop, `info.gflops_attention` by torch's counter, the sum of the rows' `flops`.
        warnings: likely mistakes, in the order of the layers.
        image: (C, H, W) of the image.
    """

    rows: tuple[LayerRow, ...]
    info: ModelInfo
    warnings: tuple[str, ...]
    image: Shape


@dataclass
class _Run:
    """What a layer did in one forward pass."""

    inputs: list[Shape]
    outputs: list[Shape]
    flops: int
    unread: tuple[str, ...] = ()
    single_value: tuple[str, ...] = ()


def inspect_model(model: DetectionModel, imgsz: int = IMAGE_SIZE) -> Inspection:
    """Measure a model in eval mode on a square image of `imgsz` pixels. A copy is run; the model does not change.

    Raises:
        ModelConfigError: the forward fails at this size.

    Examples:
        >>> from ultralytics.nn.tasks import RTDETRDetectionModel
        >>> inspection = inspect_model(RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml"))
        >>> inspection.rows[0].module, inspection.rows[0].strides
        ('EfficientViT_M0', (8.0, 8.0, 16.0, 32.0))
        >>> len(inspection.rows), inspection.info.parameters, inspection.warnings
        (20, 11008848, ())
    """
    runs, gflops = run_copy(model, imgsz, _run_layers)
    rows = tuple(_row(layer, run, imgsz, is_head=run is runs[-1]) for layer, run in zip(model.model, runs, strict=True))
    return Inspection(rows, model_size(model, gflops, imgsz), tuple(find_warnings(rows)), runs[0].inputs[0])


class _ParameterReads(TorchFunctionMode):
    """Record the ids of all parameters whose values are passed to functions of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict | None = None
    ) -> Any:
        if function not in _SIZE_QUERIES:
            used = flatten_tensors([*args, *(kwargs or {}).values()])
            self.ids.update(id(tensor) for tensor in used if isinstance(tensor, nn.Parameter))
        return function(*args, **(kwargs or {}))


def _run_layers(twin: nn.Module, image: Tensor) -> tuple[list[_Run], tuple[float, float]]:
    """Run a copy of the model and record each layer, and GFLOPs of the model by thop and by torch."""
    counter, reads = FlopCounterMode(display=False), _ParameterReads()
    runs: list[_Run] = []
    single: set[nn.Module] = set()

    def record(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        flops = counter.get_total_flops() - sum(run.flops for run in runs)
        runs.append(_Run(_shapes(inputs), _shapes(output), flops))

    def record_single(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[0] == 1 and inputs[0].shape[2:].numel() == 1:
            single.add(norm)

    for layer in twin.model:
        layer.register_forward_hook(record)
        for norm in (m for m in layer.modules() if isinstance(m, _BatchNorm)):
            norm.register_forward_pre_hook(record_single)
    with reads:
        gflops = count_operations(twin, image, counter)
    for layer, run in zip(twin.model[:-1], runs, strict=False):  # the head has parts for training only
        run.single_value = tuple(name for name, module in layer.named_modules() if module in single)
        if not any(isinstance(m, torch.jit.ScriptModule) for m in layer.modules()):  # reads are invisible there
            run.unread = tuple(name for name, p in layer.named_parameters() if id(p) not in reads.ids)
    return runs, gflops


def _shapes(value: Any) -> list[Shape]:
    return [tuple(tensor.shape[1:]) for tensor in flatten_tensors(value)]


def _row(layer: nn.Module, run: _Run, imgsz: int, is_head: bool) -> LayerRow:
    outputs = run.outputs[:1] if is_head else run.outputs
    copies = f" x{layer.repeats}" if layer.repeats > 1 else ""
    return LayerRow(
        index=layer.i,
        written=str(layer.f),
        sources=layer_sources(layer),
        numbers=tuple(range(layer.i - len(outputs) + 1, layer.i + 1)) if layer.num_slots > 1 else (layer.i,),
        name=layer.row_name,
        module=layer.row_module.removeprefix("torch.").removeprefix("nn.") + copies,
        arguments=layer.arguments,
        assumed=layer.assumed,
        inputs=tuple(run.inputs),
        outputs=tuple(outputs),
        strides=tuple(imgsz / shape[1] if len(shape) == 3 else None for shape in outputs),
        parameters=layer.np,
        flops=run.flops,
        kind="head" if is_head else _kind(layer, run),
        in_backbone=layer.in_backbone,
        where=layer.where,
        unread=run.unread,
        single_value=run.single_value,
    )


def _kind(layer: nn.Module, run: _Run) -> str:
    """Return the first of KINDS that fits a layer before the head."""
    names = {type(module).__name__.lower() for module in layer.modules()}
    if layer.num_slots > 1:
        return "backbone"
    if len(run.inputs) > 1:
        return "fusion"
    if any(word in name for word in _ATTENTION_WORDS for name in names):
        return "attention"
    if layer.in_backbone:
        return "backbone"
    if run.inputs and run.outputs and run.inputs[0][1:] != run.outputs[0][1:]:
        return "sampling"
    return "convolution" if any(isinstance(module, _CONVOLUTIONS) for module in layer.modules()) else "other"


def find_warnings(rows: Sequence[LayerRow]) -> list[str]:
    """Return likely mistakes in the order of the layers, each with file, line and layer."""
    found = list(unread_layers([row.numbers for row in rows], [row.sources for row in rows]))
    for position, row in enumerate(rows[:-1]):
        found += [(position, text) for text in _row_warnings(row)]
    found += [(len(rows) - 1, text) for text in _head_warnings(rows)]
    found.sort(key=lambda pair: pair[0])
    return [f"{rows[i].where}: layer {rows[i].index} {rows[i].module}: {text}" for i, text in found]


def _row_warnings(row: LayerRow) -> Iterator[str]:
    uneven = [shape[0] for shape in row.outputs if len(shape) == 3 and shape[0] % CHANNEL_STEP]
    inherited = any(shape[0] % CHANNEL_STEP for shape in row.inputs if len(shape) == 3 and shape[0] != 3)
    for channels in [] if inherited else uneven:  # reported once, where they first occur
        lower = channels // CHANNEL_STEP * CHANNEL_STEP
        choice = f"{lower} or {lower + CHANNEL_STEP}" if lower else str(CHANNEL_STEP)
        yield (
            f"{channels} output channels are no multiple of {CHANNEL_STEP}, which is slower in half precision on GPUs; "
            f"use {choice}"
        )
    if row.module == "Identity" or (row.module == "Concat" and len(row.sources) == 1):
        yield "returns its input unchanged; delete the row, and lower the layer numbers behind it by one"
    if row.module == "Upsample" and row.inputs == row.outputs:
        yield "does not change the size of the map; set its scale_factor, or delete the row"
    if row.single_value:
        yield (
            f"batch normalization {row.single_value[0]!r} gets one value per channel and image, so a batch of one "
            "image uses the running statistics; keep batch= well above 1, or use nn.GroupNorm there"
        )
    if row.unread:
        more = f" and {len(row.unread) - 1} more" if len(row.unread) > 1 else ""
        yield f"its forward does not read parameter {row.unread[0]!r}{more} in eval mode; use it, or delete it"


def _head_warnings(rows: Sequence[LayerRow]) -> Iterator[str]:
    stride_of = {n: s for row in rows for n, s in zip(row.numbers, row.strides, strict=False)}
    strides = [stride_of.get(source) for source in rows[-1].sources]
    if None in strides or all(abs(later / earlier - 2) <= 0.25 for earlier, later in pairwise(strides)):
        return
    yield (
        f"its input maps have strides {', '.join(f'{s:g}' for s in strides)}; expected each twice the one before, such "
        "as 8, 16, 32: check the layer numbers in its `from`"
    )


def layer_table(inspection: Inspection) -> str:
    """Return the layer table, the totals, inferred arguments and warnings as text.

    GFLOPs of layers are by torch's counter, which includes attention. A layer with several outputs has a line for each.
    """
    rows, info = inspection.rows, inspection.info
    columns = (
        Column("", "d"), Column("from", "d"), Column("name"), Column("module"), Column("arguments"),
        Column("output", "d"), Column("stride", "g"), Column("parameters", ",d"), Column("%", ".1f"),
        Column("GFLOPs (torch)", ".3f"), Column("%", ".1f"),
    )  # fmt: skip
    flops = sum(row.flops for row in rows)
    cells: list[list[Cell]] = []
    for row in rows:
        short = row.arguments if len(row.arguments) <= ARGUMENTS_WIDTH else f"{row.arguments[: ARGUMENTS_WIDTH - 3]}..."
        for n, (shape, stride) in enumerate(zip(row.outputs, row.strides, strict=True)):
            line = [row.index, row.written, row.name or "", row.module + "*" * bool(row.assumed), short]
            line += [shape_text(shape), "" if stride is None else stride, row.parameters]
            line += [_percent(row.parameters, info.parameters), row.flops / 1e9, _percent(row.flops, flops)]
            cells.append(line if n == 0 else [cell if 5 <= i <= 6 else "" for i, cell in enumerate(line)])
    cells.append([*[""] * 7, info.parameters, "", flops / 1e9, ""])
    kept = [i for i in range(len(columns)) if columns[i].title != "name" or any(row.name for row in rows)]
    table = Table([columns[i] for i in kept], [[line[i] for i in kept] for line in cells])
    lines = [table.text(), f"{len(rows)} rows, {info}"]
    if assumed := [row for row in rows if row.assumed]:
        lines.append("* the module did not register itself; its arguments were inferred:")
        lines += [f"  {row.where}: layer {row.index} {row.module}: {row.assumed}" for row in assumed]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in inspection.warnings)])


def layers_csv(inspection: Inspection) -> str:
    """Return one CSV line per layer; several maps are separated by semicolons."""
    titles = (
        "layer", "from", "sources", "name", "module", "arguments", "kind", "section", "inputs", "outputs", "strides",
        "parameters", "parameters_percent", "flops", "flops_percent", "assumed", "where",
    )  # fmt: skip
    flops = sum(row.flops for row in inspection.rows)
    lines = [
        (
            row.index, row.written, ";".join("image" if s == IMAGE else str(s) for s in row.sources), row.name,
            row.module, row.arguments, row.kind, "backbone" if row.in_backbone else "head",
            ";".join(map(shape_text, row.inputs)), ";".join(map(shape_text, row.outputs)),
            ";".join("" if stride is None else f"{stride:g}" for stride in row.strides),
            row.parameters, _percent(row.parameters, inspection.info.parameters),
            row.flops, _percent(row.flops, flops), row.assumed, row.where,
        )
        for row in inspection.rows
    ]  # fmt: skip
    return Table([Column(title) for title in titles], lines).csv()


def shape_text(shape: Shape) -> str:
    """Format a shape as `256x80x80`, channels first."""
    return "x".join(map(str, shape))


def _percent(part: int, whole: int) -> float | str:
    return round(100 * part / whole, 1) if whole else ""
