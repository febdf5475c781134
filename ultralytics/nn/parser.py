"""Build the rows of a model file as layers. Each layer is run once on the meta device as soon as it is built."""

import inspect
import math
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import ultralytics.nn.modules  # noqa: F401 - registers the layers of the package
from ultralytics.cfg.model_yaml import PYRAMID, ModelSpec, Row
from ultralytics.cfg.plain_data import parse_literal
from ultralytics.nn import plans
from ultralytics.nn.forks.row_rules import light_branch
from ultralytics.nn.forks.signatures import (
    MIN_CHANNELS,
    infer_call,
    kernel_size,
    lacks_operator,
    show_call,
    starts_with_channels,
    stated_shape,
    without_pretrained,
)
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.detect import Detect, is_legacy
from ultralytics.nn.plans import LayerSpec, RowContext, expected_arguments
from ultralytics.nn.registry import RegisteredModule, module_folders, resolve_module
from ultralytics.utils.errors import ModelConfigError, UserError, counted, did_you_mean
from ultralytics.utils.files import first_line
from ultralytics.utils.flops import Shape, joint_shape, output_shapes, takes_each_map

RESERVED = {"i", "f", "np"}  # attributes of each layer in the published package
SLOTS = 5  # layer numbers of a backbone with several outputs, one for each stride: 2, 4, 8, 16, 32
MAX_KERNEL = 63  # larger numbers are channels; the largest published kernels are 51
MAX_REPEATS = 100
MAX_TENSOR, MAX_ELEMENTS = 110_000_000, 500_000_000  # numbers in a tensor (VGG has 103 million), and in the network
FACTORIES = {"empty", "zeros", "ones", "full", "rand", "randn", "randint", "arange", "linspace", "eye"}  # of torch
TRACE_SIZE = 640  # pixels; image size at which shapes are measured, as for published FLOPs
TIMM_NAME = re.compile(r"[a-z0-9_.]+")
INDEX_ROW = re.compile("index", re.IGNORECASE)  # module that chooses one of several maps
UNREAD = (
    "no layer reads its output; name it in the `from` of a later row or delete the row. Were rows inserted before it? "
    "Each raises the numbers after it by one"
)
OF_ROW = {  # attributes of a layer
    "i", "f", "np", "type", "num_slots", "where", "in_backbone", "row_name", "row_module", "unpack_inputs", "outputs",
    "arguments", "row_repeats", "assumed",
}  # fmt: skip
DEAD_END = "only unused layers read its output; connect them to the head or delete them"


class Layers(nn.Sequential):
    """Layers of a network. One in place of another, `model.model[4] = mine`, takes over the attributes of its row."""

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self._modules.get(name, self)) if name.isdecimal() else {}
        super().__setattr__(name, value)
        for key in OF_ROW & before.keys():
            vars(value).setdefault(key, before[key])


def build_layers(spec: ModelSpec, nc: int, ch: int) -> tuple[nn.Sequential, list[int], list[list[Shape]]]:
    """Build every row of a model file; raise ModelConfigError with file, line, layer and module if one fails.

    Return the layers, the numbers of those that a later row reads by number, and the output shapes of each.
    """
    builder = _Builder(spec, nc, ch)
    with _default_activation(spec.activation, spec.name):
        for row in spec.rows:
            builder.add(row)
    return Layers(*builder.layers), sorted(builder.save), builder.shapes


def build_module(
    name: str, args: Sequence[Any] = (), inputs: Sequence[tuple[int, int, int]] = ((64, 32, 32),), repeats: int = 1,
    takes_list: bool | None = None, modules: Sequence[str] = (),
) -> nn.Module:  # fmt: skip
    """Build a single row; the layer has `outputs`, (C, H, W) of each map. Raise ModelConfigError if it does not run.

    Args:
        name: module, as a row names it.
        args: the row's arguments.
        inputs: (C, H, W) of each map it reads.
        repeats: the row's second column.
        takes_list: whether it gets its maps as a list; by default if there are several.
        modules: additional folders with module files.
    """
    takes_list = len(inputs) > 1 if takes_list is None else takes_list
    row = Row((-1,) * len(inputs), takes_list, repeats, name, tuple(args), "head", name)
    channels, sizes = tuple(c for c, _, _ in inputs), tuple((h, w) for _, h, w in inputs)
    context = RowContext(channels, repeats, sizes=sizes, takes_list=takes_list, last=channels[-1])
    layer, shapes, _ = _build_row(row, name, context, module_folders(modules))
    layer.outputs = [shape[1:] for shape in shapes]
    return layer


class _Builder:
    """Build rows in order, and resolve the numbers and names that they read."""

    def __init__(self, spec: ModelSpec, nc: int, ch: int):
        self.spec, self.nc = spec, nc
        self.image: Shape = (1, ch, TRACE_SIZE, TRACE_SIZE)
        self.folders = module_folders(spec.modules)
        self.layers: list[nn.Module] = []
        self.shapes: list[list[Shape]] = []
        self.maps: list[Shape | None] = []  # by layer number; None for an empty slot
        self.names: dict[str, int] = {}
        self.save: set[int] = set()

    def add(self, row: Row) -> None:
        number, spec = len(self.maps), self.spec
        where = f"{row.where}: layer {number} {row.module}"
        sources = [self._resolve(source, where) for source in row.sources]
        self.save.update(s for s, written in zip(sources, row.sources, strict=True) if written != -1)
        inputs = [self.image if s < 0 else self.maps[s] for s in sources]
        context = RowContext(
            inputs=tuple(shape[1] for shape in inputs),
            repeats=_repeats(row, spec.depth),
            nc=self.nc,
            width=spec.width,
            max_channels=spec.max_channels,
            scale=str(spec.source.get("scale") or ""),
            settings=spec.settings,
            sizes=tuple(shape[2:] for shape in inputs),
            takes_list=row.takes_list,
            earlier=(blocks := tuple(layer.row_module.rpartition(".")[2] for layer in self.layers)),
            light=light_branch(self.folders, blocks),
            from_checkpoint=spec.from_checkpoint,
            last=self.maps[-1][1] if self.maps else None,
        )
        layer, shapes, stated = _build_row(row, where, context, self.folders)
        if row is spec.rows[-1] and (built := getattr(layer, "nc", self.nc)) != self.nc:
            raise ModelConfigError(
                f"{where}: is built for {built} classes, but the model has {self.nc}, by `nc` of the file or the data "
                f"set; write nc in place of {built}: [nc, ...]"
            )
        is_last, are_maps = row is spec.rows[-1], all(len(shape) == 4 for shape in shapes)
        several = isinstance(stated, tuple) or (stated is None and len(shapes) > 1 and (are_maps or not is_last))
        if several and are_maps and not is_last and self._keeps_one_number(row, number):
            shapes, several = [joint_shape(shapes)], False
        limit = SLOTS if row.section == "backbone" or number == 0 else 1
        if several and len(shapes) > limit:
            raise ModelConfigError(
                f"{where}: gives {counted(len(shapes), 'output')} {[s[1:] for s in shapes]}, expected at most {limit}; "
                "only a backbone may have several"
            )
        if not (is_last or are_maps):
            raise ModelConfigError(f"{where}: returns shapes {shapes}; only the last row may return other than maps")
        # several outputs are right-aligned in the five slots
        self.maps.extend([*[None] * (SLOTS - len(shapes)), *shapes] if several else shapes[:1])
        layer.i = len(self.maps) - 1
        read = [s if isinstance(written, str) else written for s, written in zip(sources, row.sources, strict=True)]
        layer.f = read if row.takes_list else read[0]
        layer.num_slots = SLOTS if several else 1
        layer.where, layer.in_backbone = row.where, row.section == "backbone"
        layer.row_name, layer.row_module = row.name, row.module
        if row.name is not None:
            self.names[row.name] = layer.i
        self.layers.append(layer)
        self.shapes.append(shapes)
        if (total := sum(built.np for built in self.layers)) > MAX_ELEMENTS:
            raise ModelConfigError(f"{where}: {total:,} parameters up to here, expected at most {MAX_ELEMENTS:,}")

    def _keeps_one_number(self, row: Row, number: int) -> bool:
        """Check whether a layer with several outputs has one number: in the neck, or if an index row reads it."""
        if row.section != "backbone" and number > 0:
            return True
        rows = self.spec.rows
        for offset, later in enumerate(rows[rows.index(row) + 1 :], number + 1):
            read = [s + offset if isinstance(s, int) and s < 0 else s for s in later.sources]
            if INDEX_ROW.search(later.module) and (number in read or (row.name is not None and row.name in read)):
                return True
        return False

    def _resolve(self, source: int | str, where: str) -> int:
        """Return the number of a source; -1 for the image, which only the first layer reads."""
        if isinstance(source, str):
            return self._resolve_name(source, where)
        number = len(self.maps)
        absolute = source if source >= 0 else number + source
        if number == 0 and source == -1:
            return -1
        full = [i for i, shape in enumerate(self.maps) if shape is not None]
        if absolute not in full:
            known = f"only {full} have an output" if full else "the first layer reads the image: -1"
            raise ModelConfigError(f"{where} reads from {source}, but {known}")
        return absolute

    def _resolve_name(self, source: str, where: str) -> int:
        if source in self.names:
            return self.names[source]
        if re.fullmatch(PYRAMID, source):
            numbers = [n for layer in self.layers if layer.in_backbone for n in layer_numbers(layer) if self.maps[n]]
            known = {round(TRACE_SIZE / self.maps[n][2]): n for n in numbers}  # of equal strides the last map
            if (stride := 2 ** int(source[1])) not in known:
                raise ModelConfigError(f"{where} reads {source}, stride {stride}; the backbone's maps have {[*known]}")
            return known[stride]
        near = did_you_mean(source, [*self.names, *(f"P{i}" for i in range(2, 6))])
        raise ModelConfigError(f"{where} reads {source!r}, but no earlier row has this name{near}")


def _repeats(row: Row, depth: float) -> int:
    """Return the repeats of a row at a depth; ModelConfigError if there are too many to build."""
    repeats = max(round(row.repeats * depth), 1) if row.repeats > 1 else 1
    if repeats > MAX_REPEATS:
        raise ModelConfigError(f"{row.where}: {row.repeats} repeats at depth {depth}; expected at most {MAX_REPEATS}")
    return repeats


class BuildLimit(TorchFunctionMode):
    """Refuse tensors that would fill the memory while a layer is built: one of them, or all together."""

    total = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if args and getattr(func, "__name__", "") in FACTORIES:
            shape = args[0] if isinstance(args[0], (list, tuple)) else args
            elements = math.prod(shape) if all(isinstance(side, (int, float)) for side in shape) else 0
            self.total += elements
            if elements > MAX_TENSOR or self.total > MAX_ELEMENTS:
                raise ValueError(f"tensors of more than {MAX_TENSOR:,} numbers, or {MAX_ELEMENTS:,} in a layer")
        return func(*args, **(kwargs or {}))


def _build_row(
    row: Row, where: str, context: RowContext, folders: Sequence[Path]
) -> tuple[nn.Module, list[Shape], int | tuple[int, ...] | None]:
    """Return the layer, its output shapes, and the channels that its plan states."""
    context = replace(context, find=partial(resolve_module, folders=folders))
    try:
        module = context.find(row.module)
    except ModelConfigError as error:
        if context.inputs == (3,) and TIMM_NAME.fullmatch(row.module) and type((*row.args, None)[0]) is bool:
            row = replace(row, module="TimmBackbone", args=(row.module, *row.args[:1]))  # as forks name timm's networks
            return _build_row(row, where, context, folders)
        raise ModelConfigError(f"{row.where}: {error}") from None
    args = tuple(context.nc if arg == "nc" else arg for arg in row.args)
    how = ""
    if module.plan is None:
        if inspect.isclass(module.build) and issubclass(module.build, Detect):  # whose constructor does not know it
            module.build.legacy = is_legacy(context)
        spec, layer, shapes, how = infer_call(module, row.module, args, where, context, folders, _construct)
    else:
        try:
            spec = module.plan(context, *args)
        except Exception as error:  # a user's plan may fail in any way
            reason = expected_arguments(module.plan, args) or _reason(error)
            advice = _channels_advice(args, context, surplus=isinstance(error, TypeError))
            raise ModelConfigError(f"{where}: its arguments {list(args)} cannot be used: {reason}{advice}") from error
        try:
            layer, shapes = _construct(module, spec, args, context, where)
        except ModelConfigError:
            if module.plan is not plans.channel_preserving or not starts_with_channels(args, context):
                raise
            return _build_row(replace(row, args=args[1:]), where, context, folders)  # as other code bases write it
        stated = spec.out if isinstance(spec.out, tuple) else (spec.out,)
        if isinstance(spec.out, list):
            shapes, stated = [(1, tuple(shape[1] for shape in shapes), *shapes[0][2:])], (tuple(spec.out),)
        real = tuple(shape[1] for shape in shapes)
        if spec.out is not None and len(shapes[0]) == 4 and real != stated:
            raise ModelConfigError(
                f"{where}: its plan states outputs of {stated} channels, its forward gives {[s[1:] for s in shapes]}"
            )
    how = "; ".join(filter(None, (how, getattr(layer, "not_run", ""))))
    layer.np = sum(p.numel() for p in layer.parameters())
    layer.arguments, layer.row_repeats, layer.assumed = show_call(module.build, spec), spec.copies, how
    layer.unpack_inputs = takes_each_map(layer, len(context.inputs), context.takes_list)
    return layer, shapes, spec.out


def _construct(
    module: RegisteredModule, spec: LayerSpec, args: tuple[Any, ...], context: RowContext, where: str
) -> tuple[nn.Module, list[Shape]]:
    """Return the layer and its output shapes for the row's inputs; an error ends with what to change."""
    call = f"{where}({', '.join(map(repr, spec.args))})"
    if (kernel := kernel_size(module.build, spec)) > MAX_KERNEL:  # building it takes minutes and gigabytes
        advice = _channels_advice(args, context)
        raise ModelConfigError(f"{call}: expected a kernel size of at most {MAX_KERNEL}, got {kernel}{advice}")
    try:
        spec = without_pretrained(module.build, spec) if context.from_checkpoint else spec
        with BuildLimit():
            copies = nn.Sequential(*(module.build(*spec.args, **spec.kwargs) for _ in range(spec.copies)))
    except Exception as error:  # a user's constructor may fail in any way
        advice = _channels_advice(args, context, surplus=isinstance(error, TypeError))
        raise ModelConfigError(f"{call} cannot be built: {_reason(error)}{advice}") from error
    for name, parameter in copies.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ModelConfigError(f"{call}: a lazy layer; write its sizes, such as nn.Conv2d for nn.LazyConv2d")
        if not parameter.numel():  # torch builds it without an error
            raise ModelConfigError(
                f"{call}: its parameter {name.partition('.')[2]} is empty, {tuple(parameter.shape)}; is a divisor "
                "larger than the channels?"
            )
    parts = RESERVED & {*copies[0]._modules, *copies[0]._parameters, *copies[0]._buffers}
    if parts and hasattr(copies[0], "nc"):
        raise ModelConfigError(f"{call}: its part {min(parts)!r} has a name that the network sets on a head; rename it")
    layer = copies if spec.copies > 1 or parts else copies[0]  # inside a Sequential a part keeps such a name
    layer.type = f"{type(copies[0]).__module__}.{type(copies[0]).__qualname__}"
    inputs = [(1, c, *size) for c, size in zip(context.inputs, context.sizes, strict=True)]
    try:
        return layer, output_shapes(layer, inputs, context.takes_list, where, known=context.from_checkpoint)
    except ModelConfigError as error:
        if lacks_operator(error.__cause__) and not any(isinstance(c, tuple) for c in context.inputs):
            layer.not_run = f"the output is what the constructor states, since {first_line(error.__cause__)}"
            return layer, [stated_shape(module.build, spec, inputs)]
        raise ModelConfigError(f"{error}{_remedy(layer, context, inputs)}") from error


def _channels_advice(args: tuple[Any, ...], context: RowContext, *, surplus: bool = False) -> str:
    """Return what to change in a row that seems to start with input channels, starting with `; `, or ''.

    Two channel counts are a sign of it, and so is a surplus argument after the number of input channels.
    """
    channels = [type(arg) is int and arg >= MIN_CHANNELS for arg in args[:2]]
    if context.takes_list or not (channels == [True, True] or (surplus and args[:1] == (context.c1,))):
        return ""
    rest = f"[{', '.join(map(str, args[1:]))}]"
    return f"; input channels, here {context.c1}, come from the previous layer: if the row has them, write only {rest}"


def _reason(error: Exception) -> str:
    """Return the text of an error of a constructor, with the values of the arguments that torch only names."""
    if isinstance(error, UserError):
        return str(error)
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    names = dict.fromkeys(re.findall(r"[a-z]\w+", str(error)))
    values = ", ".join(f"{name}={frame.f_locals[name]}" for name in names if type(frame.f_locals.get(name)) is int)
    return f"{type(error).__name__}: {error}{values and f' ({values})'}"


def _remedy(layer: nn.Module, ctx: RowContext, inputs: list[Shape]) -> str:
    """Return the likely remedy for a layer that failed, starting with `; `, or ''; the layer is run on other inputs."""

    def runs(layer: nn.Module, inputs: list[Shape], takes_list: bool) -> bool:
        try:
            return bool(output_shapes(layer, inputs, takes_list, ""))
        except ModelConfigError:
            return False

    if not ctx.takes_list and runs(layer, inputs, True):
        return "; it takes a list of maps: write the numbers in brackets, [[a, b], 1, ...]"
    if ctx.takes_list and runs(layer, inputs[:1], False):
        return "; it takes one map, not a list: write one number for `from`, or put Concat before it for several"
    if len(set(ctx.sizes)) > 1:
        sizes = " and ".join(dict.fromkeys(f"{h}x{w}" for h, w in ctx.sizes))
        return f"; its inputs have different sizes, {sizes}: make them equal with nn.Upsample or a stride of 2"
    return ""


def layer_numbers(layer: nn.Module) -> tuple[int, ...]:
    """Return the numbers that a built layer occupies: five for a backbone with several outputs, else one."""
    return tuple(range(layer.i - layer.num_slots + 1, layer.i + 1))


def layer_sources(layer: nn.Module) -> tuple[int, ...]:
    """Return the numbers of the maps that a built layer reads; -1 is the image."""
    written = layer.f if isinstance(layer.f, list) else [layer.f]
    first = layer_numbers(layer)[0]
    return tuple(s if s >= 0 else max(first + s, -1) for s in written)


def unread_layers(numbers: Sequence[Sequence[int]], sources: Sequence[Sequence[int]]) -> Iterator[tuple[int, str]]:
    """Yield the position of each layer that does not lead to the last one, and what to do about it; the last first.

    `numbers` are those of each layer, `sources` those that it reads. Of a backbone, one used map is enough.
    """
    useful = {len(numbers) - 1}
    read_at_all = {source for row in sources for source in row}
    for position in range(len(numbers) - 2, -1, -1):
        if any(set(sources[later]) & set(numbers[position]) for later in useful):
            useful.add(position)
        else:
            yield position, DEAD_END if read_at_all & set(numbers[position]) else UNREAD


@contextmanager
def _default_activation(text: str | None, name: str) -> Iterator[None]:
    """Let `Conv` use the activation of a model file, such as `nn.ReLU()`, while the file is built."""
    before = Conv.default_act
    try:
        if text is not None:
            layer, values = re.fullmatch(r"(?:torch\.)?(?:nn\.)?(\w+)(?:\((.*)\))?", str(text)).groups()
            with BuildLimit():
                Conv.default_act = getattr(nn, layer)(*(parse_literal(f"({values},)") if values else ()))
            if not isinstance(Conv.default_act(torch.ones(1, 2, 3, 3)), torch.Tensor):
                raise ValueError("it returns no map")
    except Exception as error:  # a constructor may fail in any way
        Conv.default_act = before
        reason = f"{text!r} is not a layer of torch.nn, such as nn.ReLU() ({first_line(error)})"
        raise ModelConfigError(f"{name}: activation {reason}") from error
    try:
        yield
    finally:
        Conv.default_act = before
