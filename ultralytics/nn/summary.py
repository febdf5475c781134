"""Layer table of a model: shapes, strides, parameters and FLOPs of each row, and warnings about likely mistakes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise, zip_longest
from textwrap import shorten
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ultralytics.nn.parser import layer_numbers, layer_sources, unread_layers
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.errors import counted
from ultralytics.utils.flops import IMAGE_SIZE, ModelInfo, count_operations, flatten_tensors, model_size, run_copy
from ultralytics.utils.tables import Cell, Column, Table

Shape = tuple[int, ...]
IMAGE = -1  # the image, among the sources of a row
CHANNEL_STEP = 8  # channels per GPU instruction in half precision
ATTENTION_WORDS = ("attention", "attn", "aifi", "transformer", "mhsa")  # in class names
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
SIZE_QUERIES = {Tensor.numel, Tensor.nelement, Tensor.size, Tensor.dim, Tensor.shape.__get__, Tensor.ndim.__get__}


@dataclass
class LayerRow:
    """One layer as built. Shapes have no batch axis: (C, H, W) for a map."""

    index: int  # number in the model file; the last of five for a layer with several outputs
    written: str  # `from` of the row, such as `-1` or `[-1, 12]`
    sources: tuple[int, ...]  # numbers of the maps that it reads; IMAGE is the image
    numbers: tuple[int, ...]  # numbers of the maps that it returns
    name: str | None
    module: str  # class name, with ` x3` for three copies in sequence
    arguments: str
    assumed: str  # how its arguments were inferred if the module did not register itself, else ""
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]  # of the last layer only the predictions
    strides: tuple[float | None, ...]  # image height / map height of each output; None if it is no map
    parameters: int
    flops: int  # multiplications and additions for one image by torch's counter
    kind: str  # backbone, convolution, attention, fusion, sampling, other or head
    in_backbone: bool
    where: str
    unread: tuple[str, ...] = ()  # parameters that forward does not use in eval mode; empty for the last layer


@dataclass(frozen=True)
class Inspection:
    """Layer table of a model: rows, totals, likely mistakes in the order of the layers, and (C, H, W) of the image."""

    rows: tuple[LayerRow, ...]
    info: ModelInfo
    warnings: tuple[str, ...]
    image: Shape


def inspect_model(model: DetectionModel, imgsz: int = IMAGE_SIZE) -> Inspection:
    """Measure a model in eval mode on a square image of `imgsz` pixels. A copy is run; the model does not change.

    Raises:
        ModelConfigError: the forward fails at this size.
    """
    rows, gflops = run_copy(model, imgsz, _run_layers)
    return Inspection(tuple(rows), model_size(model, gflops, imgsz), tuple(find_warnings(rows)), rows[0].inputs[0])


class _ParameterReads(TorchFunctionMode):
    """Record the ids of all parameters whose values are passed to functions of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict | None = None
    ) -> Any:
        if function not in SIZE_QUERIES:
            used = flatten_tensors([*args, *(kwargs or {}).values()])
            self.ids.update(id(tensor) for tensor in used if isinstance(tensor, nn.Parameter))
        return function(*args, **(kwargs or {}))


def _run_layers(twin: nn.Module, image: Tensor) -> tuple[list[LayerRow], tuple[float, float]]:
    """Run a copy of the model, and return a row for each layer, and GFLOPs of the model by thop and by torch."""
    counter, reads = FlopCounterMode(display=False), _ParameterReads()
    rows: list[LayerRow] = []

    def record(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        shapes = [tuple(tuple(t.shape[1:]) for t in flatten_tensors(value)) for value in (inputs, output)]
        flops = counter.get_total_flops() - sum(row.flops for row in rows)
        rows.append(_row(layer, *shapes, flops, image.shape[2], is_head=layer is twin.model[-1]))

    for layer in twin.model:
        layer.register_forward_hook(record)
    with reads:
        gflops = count_operations(twin, image, counter)
    for layer, row in zip(twin.model[:-1], rows, strict=False):  # the head has parts for training only
        row.unread = tuple(name for name, p in layer.named_parameters() if id(p) not in reads.ids)
    return rows, gflops


def _row(
    layer: nn.Module, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...], flops: int, side: int, is_head: bool
) -> LayerRow:
    outputs = outputs[:1] if is_head else outputs
    copies = f" x{layer.row_repeats}" if layer.row_repeats > 1 else ""
    return LayerRow(
        index=layer.i,
        written=str(layer.f),
        sources=layer_sources(layer),
        numbers=layer_numbers(layer)[-len(outputs) :],
        name=layer.row_name,
        module=layer.row_module.removeprefix("torch.").removeprefix("nn.") + copies,
        arguments=layer.arguments,
        assumed=layer.assumed,
        inputs=inputs,
        outputs=outputs,
        strides=tuple(side / shape[1] if len(shape) == 3 else None for shape in outputs),
        parameters=layer.np,
        flops=flops,
        kind="head" if is_head else _kind(layer, inputs, outputs),
        in_backbone=layer.in_backbone,
        where=layer.where,
    )


def _kind(layer: nn.Module, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> str:
    """Return the first of the kinds that fits a layer before the head."""
    names = {type(module).__name__.lower() for module in layer.modules()}
    if layer.num_slots > 1:
        return "backbone"
    if len(inputs) > 1:
        return "fusion"
    if any(word in name for word in ATTENTION_WORDS for name in names):
        return "attention"
    if layer.in_backbone:
        return "backbone"
    if inputs and outputs and inputs[0][1:] != outputs[0][1:]:
        return "sampling"
    return "convolution" if any(isinstance(module, CONVOLUTIONS) for module in layer.modules()) else "other"


def find_warnings(rows: Sequence[LayerRow]) -> list[str]:
    """Return likely mistakes in the order of the layers, each with file, line and layer."""
    found = list(unread_layers([row.numbers for row in rows], [row.sources for row in rows]))
    for position, row in enumerate(rows[:-1]):
        found += [(position, text) for text in _row_warnings(row)]
    found += [(len(rows) - 1, text) for text in _head_warnings(rows)]
    found.sort(key=lambda pair: pair[0])
    return [f"{rows[i].where}: layer {rows[i].index} {rows[i].module}: {text}" for i, text in found]


def _row_warnings(row: LayerRow) -> Iterator[str]:
    if row.module == "Identity" and row.sources == (IMAGE,):
        return  # gives the image a number that later rows can read
    uneven = [shape[0] for shape in row.outputs if len(shape) == 3 and shape[0] % CHANNEL_STEP]
    inherited = any(shape[0] % CHANNEL_STEP for shape in row.inputs if len(shape) == 3 and shape[0] != 3)
    for channels in [] if inherited else uneven:  # reported once, where they first occur
        lower = channels // CHANNEL_STEP * CHANNEL_STEP
        choice = f"{lower} or {lower + CHANNEL_STEP}" if lower else str(CHANNEL_STEP)
        yield (
            f"{counted(channels, 'output channel')}, no multiple of {CHANNEL_STEP}, which is slower in half precision "
            f"on GPUs; use {choice}"
        )
    if row.module == "Identity" or (row.module == "Concat" and len(row.sources) == 1):
        yield "returns its input unchanged; delete the row, and lower the layer numbers behind it by one"
    if row.module == "Upsample" and row.inputs == row.outputs:
        yield "does not change the size of the map; set its scale_factor, or delete the row"
    if row.unread:
        more = f" and {len(row.unread) - 1} more" if len(row.unread) > 1 else ""
        yield f"its forward does not read parameter {row.unread[0]!r}{more} in eval mode; use it, or delete it"


def _head_warnings(rows: Sequence[LayerRow]) -> Iterator[str]:
    stride_of = {n: s for row in rows for n, s in zip(row.numbers, row.strides, strict=False)}
    strides = [stride_of.get(source) for source in rows[-1].sources]
    half = len(strides) // 2
    strides = strides[:half] if strides[:half] == strides[half:] else strides  # an auxiliary branch reads the others
    if None not in strides and any(abs(later / earlier - 2) > 0.25 for earlier, later in pairwise(strides)):
        yield (
            f"its input maps have strides {', '.join(f'{s:g}' for s in strides)}; expected each twice the one before, "
            "such as 8, 16, 32: check the layer numbers in its `from`"
        )


ORDERS = {"layer": 0, "parameters": 7, "flops": 9, "time": 11}  # column of the table


def layer_table(inspection: Inspection, times: Sequence[float] = (), sort: str = "layer") -> Table:
    """Return a row for each layer and one for the sum; with the milliseconds of each layer if given.

    GFLOPs of layers are by torch's counter, which includes attention. Sorted by a key of ORDERS, the greatest first.
    """
    columns = [
        Column("layer", "d"), Column("from", "d"), Column("name"), Column("module"), Column("arguments"),
        Column("output", "d"), Column("stride", "d"), Column("parameters", ",d"), Column("%", ".1f"),
        Column("GFLOPs (torch)", ".3f"), Column("%", ".1f"), Column("Time (ms)", ".3f"), Column("%", ".1f"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    costs = [(row.parameters, row.flops / 1e9, time) for row, time in zip_longest(inspection.rows, times, fillvalue=0)]
    sums = [sum(values) for values in zip(*costs, strict=True)]
    for row, values in zip(inspection.rows, costs, strict=True):
        arguments = shorten(row.arguments, 40, placeholder="...")  # layers.csv has all of them
        strides = " ".join(f"{stride:g}" for stride in row.strides if stride)
        cells = [row.index, row.written, row.name or "", row.module + "*" * bool(row.assumed), arguments]
        cells += [" ".join(map(shape_text, row.outputs)), strides]
        for value, total in zip(values, sums, strict=True):
            cells += [value, 100 * value / total if total else 0]
        rows.append(cells)
    if sort != "layer":
        rows.sort(key=lambda row: -row[ORDERS[sort]])
    rows.append(["sum", *[""] * 6, *(cell for total in sums for cell in (total, ""))])
    shown = len(columns) if times else -2
    return Table(columns[:shown], [row[:shown] for row in rows])


def layer_report(inspection: Inspection) -> str:
    """Return the layer table, the totals, inferred arguments and warnings as text."""
    rows = inspection.rows
    lines = [layer_table(inspection).text(), f"{counted(len(rows), 'row')}, {inspection.info}"]
    if assumed := [row for row in rows if row.assumed]:
        lines.append("* the module did not register itself; its arguments were inferred:")
        lines += [f"  {row.where}: layer {row.index} {row.module}: {row.assumed}" for row in assumed]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in inspection.warnings)])


def layers_csv(inspection: Inspection) -> str:
    """Return one CSV line per layer with all fields of `LayerRow`; several values are separated by semicolons."""

    def text(value: Any) -> Any:
        if isinstance(value, tuple):
            return ";".join(shape_text(v) if isinstance(v, tuple) else "" if v is None else str(v) for v in value)
        return value

    names = [field.name for field in fields(LayerRow)]
    return Table([Column(n) for n in names], [[text(getattr(row, n)) for n in names] for row in inspection.rows]).csv()


def shape_text(shape: Shape) -> str:
    """Format a shape as `256x80x80`, channels first."""
    return "x".join(map(str, shape))
