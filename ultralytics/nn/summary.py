"""The layers of an inspected model as lines for the terminal and as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ultralytics.nn.modules.conv import Concat
from ultralytics.nn.parser import layer_sources, unread_layers
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.flops import IMAGE_SIZE, ModelInfo, count_operations, model_size, run_copy
from ultralytics.utils.meta_device import flatten_tensors

Shape = tuple[int, ...]

_ATTENTION_WORDS = ("attention", "attn", "aifi", "transformer", "mhsa")  # in names of classes
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Colours:
    """Fill and outline of a box. The text on it is dark; tests hold the contrast above 7 to 1."""

    fill: str
    line: str


# Tints of the palette of Okabe and Ito, which the colour-blind tell apart.
KINDS: dict[str, Colours] = {
    "backbone": Colours("#d5dce6", "#4a5a70"),
    "convolution": Colours("#cfe6f7", "#0072b2"),
    "attention": Colours("#f7d6e6", "#a8477f"),
    "fusion": Colours("#cdeede", "#00795a"),
    "sampling": Colours("#fbe3bd", "#a86f00"),
    "other": Colours("#f0f0f0", "#6b6b6b"),
    "head": Colours("#f9d3c2", "#b84a00"),
}
TEXT = "#1a1a1a"


def kind_of(layer: nn.Module, inputs: Sequence[Shape], outputs: Sequence[Shape], is_head: bool) -> str:
    """The kind of a layer, a key of `KINDS`; sizes are without the batch axis.

    The first that holds: the last layer; several outputs; several inputs; attention in it; listed under `backbone`;
    the map's size changes (strided convolutions, pooling, upsampling); a convolution in it.
    """
    if is_head:
        return "head"
    if layer.num_slots > 1:
        return "backbone"
    if len(inputs) > 1:
        return "fusion"
    names = {type(module).__name__.lower() for module in layer.modules()}
    if any(word in name for word in _ATTENTION_WORDS for name in names):
        return "attention"
    if layer.in_backbone:
        return "backbone"
    if inputs and outputs and inputs[0][1:] != outputs[0][1:]:
        return "sampling"
    return "convolution" if any(isinstance(module, _CONVOLUTIONS) for module in layer.modules()) else "other"


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
        kind=kind_of(layer, run.inputs, outputs, is_head),
        in_backbone=layer.in_backbone,
        where=layer.where,
    )


# What counters of operations ask of a parameter without reading its values.
SIZE_QUERIES = {Tensor.numel, Tensor.nelement, Tensor.size, Tensor.dim, Tensor.shape.__get__, Tensor.ndim.__get__}


class ParameterUse(TorchFunctionMode):
    """While it is active, notes the parameters of `layers` whose values any function of torch is given.

    Args:
        layers: the layers to watch, on the meta device.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = list(layers)
        self._read: set[int] = set()
        self._single: dict[int, list[str]] = {}

    def __enter__(self) -> ParameterUse:
        self._handles = [
            module.register_forward_pre_hook(self._note_single(position, name))
            for position, layer in enumerate(self.layers)
            for name, module in layer.named_modules()
            if isinstance(module, _BatchNorm)
        ]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict | None = None
    ) -> Any:
        if function not in SIZE_QUERIES:
            self._read.update(id(p) for p in _parameters_in((args, *(kwargs or {}).values())))
        return function(*args, **(kwargs or {}))

    def unread(self, position: int) -> list[str]:
        """Names of the parameters of a layer that were given to no function of torch.

        Compiled code (torch.jit) reads its parameters unseen, so a layer that holds some has none.
        """
        layer = self.layers[position]
        if any(isinstance(module, torch.jit.ScriptModule) for module in layer.modules()):
            return []
        return [name for name, p in layer.named_parameters() if id(p) not in self._read]

    def single_valued(self, position: int) -> list[str]:
        """Names of the batch normalisations of a layer whose input had one position per image."""
        return self._single.get(position, [])

    def _note_single(self, position: int, name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if isinstance(inputs[0], Tensor) and inputs[0].shape[2:].numel() == 1 and inputs[0].shape[0] == 1:
                self._single.setdefault(position, []).append(name)

        return note


def _parameters_in(value: Any) -> Iterator[nn.Parameter]:
    """Parameters among arguments, nested sequences flattened."""
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parameters_in(part)


CHANNEL_STEP = 8  # channels in half precision that GPUs compute at once


@dataclass(frozen=True)
class Finding:
    """One remark. `layer` is its number, `text` what is found and what to do about it."""

    layer: int
    module: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: layer {self.layer} {self.module}: {self.text}"


def find_faults(rows: Sequence[LayerRow], layers: Sequence[nn.Module], use: ParameterUse) -> list[Finding]:
    """All findings in the order of the layers.

    Args:
        rows: the measured layers.
        layers: their modules.
        use: what the run saw of all layers but the last, whose training-only parts a run in eval does not show.
    """
    found: list[tuple[int, str]] = list(unread_layers([r.numbers for r in rows], [r.sources for r in rows]))
    for position, (row, layer) in enumerate(zip(rows, layers, strict=True)):
        if position == len(rows) - 1:
            found += [(position, text) for text in _head_strides(row, rows)]
            continue
        found += [(position, text) for text in (*_channels(row), *_does_nothing(row, layer))]
        found += [(position, text) for text in (*_normalisation(position, use), *_parameters(position, use))]
    return [
        Finding(rows[i].index, rows[i].module, rows[i].where, text) for i, text in sorted(found, key=lambda f: f[0])
    ]


def _channels(row: LayerRow) -> Iterator[str]:
    """Widths that are no multiple of 8, where they arise: a layer that passes them on is not told again."""
    if any(shape[0] % CHANNEL_STEP for shape in row.inputs if len(shape) == 3 and shape[0] != 3):
        return
    for shape in row.outputs:
        if len(shape) == 3 and shape[0] % CHANNEL_STEP:
            lower = shape[0] // CHANNEL_STEP * CHANNEL_STEP
            choice = f"{lower} or {lower + CHANNEL_STEP}" if lower else str(CHANNEL_STEP)
            yield (
                f"{shape[0]} output channels are no multiple of {CHANNEL_STEP}, which GPUs compute more slowly in half "
                f"precision; {choice} would be"
            )


def _does_nothing(row: LayerRow, layer: nn.Module) -> Iterator[str]:
    if isinstance(layer, nn.Identity) or (isinstance(layer, Concat) and len(row.sources) == 1):
        yield "returns its input unchanged; delete the row, and lower the layer numbers behind it by one"
    elif isinstance(layer, nn.Upsample) and row.inputs == row.outputs:
        yield "the map comes out in the size it went in; set its scale_factor, or delete the row"


def _normalisation(position: int, use: ParameterUse) -> Iterator[str]:
    names = use.single_valued(position)
    if names:
        yield (
            f"batch normalisation {names[0]!r} sees one value per channel and image, so a batch of one image is "
            "normalised by the running statistics; keep batch= well above 1, or normalise by nn.GroupNorm there"
        )


def _parameters(position: int, use: ParameterUse) -> Iterator[str]:
    names = use.unread(position)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield (
            f"its forward does not read parameter {names[0]!r}{more} in eval mode; a part that is never used is to be "
            "deleted from the module"
        )


def _head_strides(head: LayerRow, rows: Sequence[LayerRow]) -> Iterator[str]:
    strides_of = {n: s for row in rows for n, s in zip(row.numbers, row.strides, strict=False)}
    strides = [strides_of.get(source) for source in head.sources]
    if None in strides or len(strides) < 2:
        return
    if any(abs(later / earlier - 2) > 0.25 for earlier, later in pairwise(strides)):
        shown = ", ".join(f"{s:g}" for s in strides)
        yield (
            f"the maps that go in have strides {shown}; expected each twice the one before, finest first, such as "
            "8, 16, 32: check the layer numbers in its `from`"
        )


ARGUMENTS_WIDTH = 40  # characters on the terminal; layers.csv has the whole

CSV_COLUMNS = (
    *("layer", "from", "sources", "name", "module", "arguments", "kind", "section", "inputs", "outputs", "strides"),
    *("parameters", "parameters_percent", "flops", "flops_percent", "assumed", "where"),
)


@dataclass(frozen=True)
class _Column:
    title: str
    cells: list[str]
    left: bool = False

    @property
    def width(self) -> int:
        return max(map(len, [self.title, *self.cells]))

    def line(self, text: str) -> str:
        return text.ljust(self.width) if self.left else text.rjust(self.width)


def shape_text(shape: Shape) -> str:
    """`256x80x80`, channels first."""
    return "x".join(map(str, shape))


def stride_text(stride: float | None) -> str:
    """`8`, or empty for an output that is no map."""
    return "" if stride is None else f"{stride:g}"


def layer_table(inspection: Inspection) -> str:
    """Layer table, the sums, what was assumed, and the warnings.

    GFLOPs of a layer are by torch's counter, which sees attention; thop has no rule for it, so its number stands in the
    last line only. Rows of several maps go on below each other. A star marks an assumed row.
    """
    rows, info = inspection.rows, inspection.info
    lines = _lines(rows, info.parameters, sum(row.flops for row in rows))
    lines.append(f"{len(rows)} rows, {info}")
    assumed = [row for row in rows if row.assumed]
    if assumed:
        lines.append("* the module did not register itself, so its row was read on assumptions:")
        lines += [f"  {row.where}: layer {row.index} {row.module}: {row.assumed}" for row in assumed]
    lines += [f"warning: {warning}" for warning in inspection.warnings]
    return "\n".join(lines)


def layers_csv(inspection: Inspection) -> str:
    """One line a layer with everything that `LayerRow` has; several maps are separated by semicolons."""
    rows, info = inspection.rows, inspection.info
    total = sum(row.flops for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        writer.writerow([
            row.index, row.written, ";".join("image" if s == IMAGE else str(s) for s in row.sources), row.name or "",
            row.module, row.arguments, row.kind, "backbone" if row.in_backbone else "head",
            ";".join(map(shape_text, row.inputs)), ";".join(map(shape_text, row.outputs)),
            ";".join(map(stride_text, row.strides)), row.parameters, _percent(row.parameters, info.parameters),
            row.flops, _percent(row.flops, total), row.assumed, row.where,
        ])  # fmt: skip
    return text.getvalue()


def _lines(rows: Sequence[LayerRow], parameters: int, flops: int) -> list[str]:
    """Header, rows and sums in columns of equal width."""
    first = [position for row in rows for position in [True, *[False] * (len(row.outputs) - 1)]]

    def column(title: str, texts: Sequence[str], total: str = "", left: bool = False) -> _Column:
        once = iter(texts)
        return _Column(title, [*(next(once) if is_first else "" for is_first in first), total], left)

    columns = [
        column("", [str(row.index) for row in rows]),
        column("from", [row.written for row in rows]),
        column("name", [row.name or "" for row in rows], left=True),
        column("module", [row.module + "*" * bool(row.assumed) for row in rows], left=True),
        column("arguments", [_shortened(row.arguments) for row in rows], left=True),
        _Column("output", [*(shape_text(shape) for row in rows for shape in row.outputs), ""]),
        _Column("stride", [*(stride_text(stride) for row in rows for stride in row.strides), ""]),
        column("parameters", [f"{row.parameters:,}" for row in rows], f"{parameters:,}"),
        column("%", [_percent(row.parameters, parameters) for row in rows]),
        column("GFLOPs (torch)", [f"{row.flops / 1e9:.3f}" for row in rows], f"{flops / 1e9:.3f}"),
        column("%", [_percent(row.flops, flops) for row in rows]),
    ]
    columns = [c for c in columns if c.title in ("", "%") or any(c.cells)]  # most models name no row
    body = ["  ".join(c.line(c.cells[i]) for c in columns).rstrip() for i in range(len(first) + 1)]
    return ["  ".join(c.line(c.title) for c in columns).rstrip(), *body]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else ""


def _shortened(text: str) -> str:
    return text if len(text) <= ARGUMENTS_WIDTH else text[: ARGUMENTS_WIDTH - 3] + "..."
