"""From the rows of a model file to layers, each of which is run once on the meta device as soon as it is built."""

from __future__ import annotations

import ast
import inspect
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ultralytics.nn.modules  # noqa: F401 - registers the layers of the package
from ultralytics.cfg.model_yaml import PYRAMID, ModelSpec, Row
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.plans import LayerSpec, PlanFunction, RowContext
from ultralytics.nn.registry import (
    RegisteredModule,
    defined_names,
    find_definition,
    find_registered,
    find_stronger,
    module_folders,
    why_missing,
)
from ultralytics.nn.signatures import candidates, no_candidate, takes_classes
from ultralytics.utils.errors import ModelConfigError, did_you_mean
from ultralytics.utils.flops import FastShapes, copy_on_meta


def advice(layer: nn.Module, plan: LayerSpec, ctx: RowContext, where: str) -> str:
    """The likely remedy for a layer that failed on these inputs, starting with `; `, or '' where none is known.

    What can be tried is tried: the remedy that a list is wanted, or is not, is only given where it works.
    """
    shapes = [(1, c, *size) for c, size in zip(ctx.inputs, ctx.sizes, strict=True)]
    if not ctx.takes_list and _runs(layer, shapes, True, where):
        return "; it takes a list of maps: write the numbers in brackets, [[a, b], 1, ...]"
    if ctx.takes_list and _runs(layer, shapes[:1], False, where):
        several = "to join several, put Concat before it" if len(shapes) > 1 else "without brackets"
        return f"; it takes one map, not a list: write one number for `from`; {several}"
    if len(set(ctx.sizes)) > 1:
        sizes = " and ".join(dict.fromkeys(f"{h}x{w}" for h, w in ctx.sizes))
        return f"; its inputs have different sizes, {sizes}: bring them to one with nn.Upsample or a stride of 2"
    if isinstance(plan.out, tuple) and ctx.c1 != 3:
        return f"; it is a backbone, which reads the image (3 channels): make it the first row; here it gets {ctx.c1}"
    if plan.copies > 1 and _runs(layer[0], shapes, ctx.takes_list, where):
        return (
            f"; {plan.copies} copies stand in sequence, each built for {ctx.c1} input channels: make its output "
            f"channels {ctx.c1}, or write 1 in the second column"
        )
    if len(set(ctx.inputs)) > 1:
        return f"; its inputs have {' and '.join(map(str, ctx.inputs))} channels: it may want equal ones"
    return ""


def _runs(layer: nn.Module, shapes: list[tuple[int, ...]], takes_list: bool, where: str) -> bool:
    try:
        output_shapes(layer, shapes, takes_list, where)
    except ModelConfigError:
        return False
    return True


Shape = tuple[int, ...]


@torch.no_grad()
def output_shapes(
    layer: nn.Module, inputs: Sequence[Shape], takes_list: bool, where: str, known: bool = False
) -> list[Shape]:
    """Shapes of the tensors that a layer returns in eval mode; nested sequences are flattened.

    It runs on the meta device. A layer that cannot (it holds tensors of its own, or reads values) runs on the CPU.

    Args:
        layer: the module; neither its statistics nor its mode change.
        inputs: shape of each input.
        takes_list: whether it gets them as a list.
        where: file, line and layer, for messages.
        known: whether it has been run before, when the weights were made that it is going to load. Then the shapes
            are those for no images at all, where that works. It is no check (a `view` of nothing fits everything),
            but torch imports its compiler to work on the meta device, which takes longer than a prediction.

    Raises:
        ModelConfigError: its forward fails, or returns something else than tensors; the message names the line.
    """
    if known and (shapes := _without_images(layer, inputs, takes_list)) is not None:
        return shapes
    try:
        twin = copy_on_meta(layer).eval()
        with FastShapes():
            output = call(twin, [torch.empty(shape, device="meta") for shape in inputs], takes_list)
    except Exception:  # whatever it is, the run on the CPU below shows it with a better message
        output = _on_cpu(layer, inputs, takes_list, where)
    found = tensors(output)
    if not found:
        kind = type(output).__name__
        raise ModelConfigError(f"{where}: its forward returns a {kind}; expected a map (B, C, H, W), or a list of maps")
    return [tuple(t.shape) for t in found]


def call(layer: nn.Module, inputs: Sequence[Tensor], takes_list: bool) -> Any:
    """Run a layer on its inputs: one map, a list of maps, or each map as an argument of its own."""
    if takes_each_map(layer, len(inputs), takes_list):
        return layer(*inputs)
    return layer(list(inputs)) if takes_list else layer(inputs[0])


def takes_each_map(layer: nn.Module, count: int, takes_list: bool) -> bool:
    """Whether `forward` has a parameter for each of several inputs instead of one for their list."""
    if not takes_list or count < 2 or isinstance(layer, nn.Sequential):
        return False
    parameters = inspect.signature(layer.forward).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return len(required) == count


def tensors(output: Any) -> list[Tensor]:
    """Tensors of an output, nested sequences flattened."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, list | tuple):
        return [t for part in output for t in tensors(part)]
    return []


def _without_images(layer: nn.Module, inputs: Sequence[Shape], takes_list: bool) -> list[Shape] | None:
    """Output shapes found with a batch of size 0; None where the layer cannot take it."""
    with _evaluating(layer):
        try:
            output = call(layer, [torch.empty(0, *shape[1:]) for shape in inputs], takes_list)
        except Exception:  # whatever it is, the run with an image shows it
            return None
    found = [tuple(t.shape) for t in tensors(output)]
    if not found or any(shape.count(0) != 1 for shape in found):
        return None
    return [tuple(side or 1 for side in shape) for shape in found]


@contextmanager
def _evaluating(layer: nn.Module) -> Iterator[None]:
    """The layer in eval, and afterwards each part of it in the mode it had; random numbers go on as if nothing was."""
    modes = {module: module.training for module in layer.modules()}
    state = torch.get_rng_state()
    try:
        layer.eval()
        yield
    finally:
        torch.set_rng_state(state)
        for module, training in modes.items():
            module.training = training


def _on_cpu(layer: nn.Module, inputs: Sequence[Shape], takes_list: bool, where: str) -> Any:
    try:
        with _evaluating(layer):
            return call(layer, [torch.rand(shape) for shape in inputs], takes_list)
    except Exception as error:  # a user's forward may fail in any way; it is reported with its line
        shapes = [tuple(shape) for shape in inputs]
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        raise ModelConfigError(
            f"{where} fails on inputs {shapes}: {type(error).__name__}: {reason}{_place(error)}"
        ) from error


def _place(error: BaseException) -> str:
    """` (FILE, line N)` of the deepest frame outside torch."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "torch" not in f.filename.replace("\\", "/").split("/")
    ]
    return f" ({frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno})" if len(frames) > 2 else ""


UNREAD = (
    "no layer reads its output; name it in the `from` of a later row or delete the row. Were rows put in before it? "
    "Numbers after them rise by one for each"
)
DEAD_END = "only layers that lead nowhere read its output; connect them to the head or delete them"


def layer_numbers(layer: nn.Module) -> tuple[int, ...]:
    """The number of each place that a built layer takes: five for a backbone with several outputs, else one."""
    return tuple(range(layer.i - layer.num_slots + 1, layer.i + 1))


def layer_sources(layer: nn.Module) -> tuple[int, ...]:
    """Numbers of the maps that a built layer reads; -1 is the image."""
    written = layer.f if isinstance(layer.f, list) else [layer.f]
    first = layer_numbers(layer)[0]
    return tuple(s if s >= 0 else max(first + s, -1) for s in written)


def unread_layers(numbers: Sequence[Sequence[int]], sources: Sequence[Sequence[int]]) -> Iterator[tuple[int, str]]:
    """Position of each layer from which no path leads to the last one, and what to do about it, the last first.

    A backbone need not have all its maps read, only one.

    Args:
        numbers: of each layer its own numbers.
        sources: of each layer the numbers it reads.
    """
    useful = {len(numbers) - 1}
    read_at_all = {source for row in sources for source in row}
    for position in range(len(numbers) - 2, -1, -1):
        if any(set(sources[later]) & set(numbers[position]) for later in useful):
            useful.add(position)
        else:
            yield position, DEAD_END if read_at_all & set(numbers[position]) else UNREAD


SLOTS = 5  # places a layer with several outputs takes in the numbering: strides 2, 4, 8, 16, 32
TRACE_SIZE = 640  # pixels of the image for which shapes are stated; published FLOPs are counted at it, too

BUILD_ERRORS = (
    TypeError, ValueError, AssertionError, RuntimeError, LookupError, ArithmeticError, AttributeError, ImportError,
    NotImplementedError, OSError,
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    """The layers of a model file.

    Attributes:
        layers: each with the attributes that `_Builder._describe` sets.
        save: sorted numbers of those whose output a later layer reads by number.
        shapes: output shapes of each layer for an image of TRACE_SIZE.
    """

    layers: nn.Sequential
    save: list[int]
    shapes: list[list[Shape]]


def build_layers(spec: ModelSpec, nc: int, ch: int) -> Built:
    """Build every row of a model file.

    Raises:
        ModelConfigError: a row cannot be built or run; the message names file, line, layer and module.
    """
    builder = _Builder(spec, nc, ch)
    with default_activation(spec.activation, spec.name):
        for row in spec.rows:
            builder.add(row)
    return Built(nn.Sequential(*builder.layers), sorted(builder.save), builder.shapes)


def build_module(
    name: str,
    args: Sequence[Any] = (),
    inputs: Sequence[tuple[int, int, int]] = ((64, 32, 32),),
    repeats: int = 1,
    takes_list: bool | None = None,
    modules: Sequence[str] = (),
) -> nn.Module:
    """One row on its own.

    Args:
        name: module, as a row names it.
        args: the row's arguments.
        inputs: (C, H, W) of each map it reads.
        repeats: the row's second column.
        takes_list: whether it gets its maps as a list; where there are several it does.
        modules: further folders with module files.

    Returns:
        The layer, described like those of a model, with `outputs`, (C, H, W) of each map it gives, and `stated`, the
        channels that its plan states (None where they are measured).

    Raises:
        ModelConfigError: it cannot be built, or does not run on these inputs.
    """
    takes_list = len(inputs) > 1 if takes_list is None else takes_list
    row = Row((-1,) * len(inputs), takes_list, repeats, name, tuple(args), "head", name)
    folders = module_folders(modules)
    context = RowContext(
        inputs=tuple(c for c, _, _ in inputs),
        repeats=repeats,
        sizes=tuple((h, w) for _, h, w in inputs),
        takes_list=takes_list,
        find=lambda name: find_entry(name, folders=folders),
    )
    layer, shapes, stated = _build_row(row, name, context, folders)
    layer.outputs, layer.stated = [shape[1:] for shape in shapes], stated
    return layer


class _Builder:
    """Adds rows one after the other and remembers what each number and name stands for."""

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
        number = len(self.maps)
        where = f"{row.where}: layer {number} {row.module}"
        sources = [self._resolve(source, row, where) for source in row.sources]
        self.save.update(s for s, written in zip(sources, row.sources, strict=True) if written != -1)
        inputs = [self.image if s < 0 else self.maps[s] for s in sources]
        context = RowContext(
            inputs=tuple(shape[1] for shape in inputs),
            repeats=max(round(row.repeats * self.spec.depth), 1) if row.repeats > 1 else row.repeats,
            nc=self.nc,
            width=self.spec.width,
            max_channels=self.spec.max_channels,
            settings=self.spec.settings,
            sizes=tuple(shape[2:] for shape in inputs),
            takes_list=row.takes_list,
            find=lambda name: find_entry(name, where, self.folders),
            from_checkpoint=self.spec.from_checkpoint,
        )
        layer, shapes, stated = _build_row(row, where, context, self.folders)
        several = isinstance(stated, tuple) or (stated is None and len(shapes) > 1)
        if several and number and row.section != "backbone":
            raise ModelConfigError(
                f"{where}: gives {len(shapes)} outputs {[s[1:] for s in shapes]}; only a backbone may, a layer of the "
                f"head has to return one map"
            )
        if row is not self.spec.rows[-1] and (flat := next((s for s in shapes if len(s) != 4), None)) is not None:
            raise ModelConfigError(
                f"{where}: gives {flat[1:]} for an image, which is no map (C, H, W); only the last row, the head, may"
            )
        self.maps.extend(_slots(shapes, where) if several else shapes[:1])
        layer.i = len(self.maps) - 1
        read = [s if isinstance(written, str) else written for s, written in zip(sources, row.sources, strict=True)]
        layer.f = read if row.takes_list else read[0]
        layer.num_slots = SLOTS if several else 1
        layer.where, layer.in_backbone, layer.row_name = row.where, row.section == "backbone", row.name
        layer.row_module = row.module
        if row.name is not None:
            self.names[row.name] = layer.i
        self.layers.append(layer)
        self.shapes.append(shapes)

    def _resolve(self, source: int | str, row: Row, where: str) -> int:
        """Number of a source; -1 for the image, which only the first layer reads."""
        number = len(self.maps)
        if isinstance(source, str):
            return self._named(source, row, where)
        absolute = source if source >= 0 else number + source
        if number == 0 and source == -1:
            return -1
        if not 0 <= absolute < number:
            known = f"only 0 to {number - 1} exist before it" if number else "the first layer reads the image: -1"
            raise ModelConfigError(f"{where} reads from {source}, but {known}")
        if self.maps[absolute] is None:
            full = [i for i, shape in enumerate(self.maps) if shape is not None]
            raise ModelConfigError(
                f"{where} reads from {source}, an empty slot of the backbone "
                f"(it has fewer than {SLOTS} outputs); layers with an output: {full}"
            )
        return absolute

    def _named(self, source: str, row: Row, where: str) -> int:
        if source in self.names:
            return self.names[source]
        if re.fullmatch(PYRAMID, source):
            stride = 2 ** int(source[1])
            found = [number for number, strides in self._backbone_strides() if strides == stride]
            if found:
                return found[-1]
            strides = sorted({stride for _, stride in self._backbone_strides()})
            raise ModelConfigError(f"{where} reads {source}, stride {stride}; the backbone's maps have {strides}")
        later = next((r.where for r in self.spec.rows if r.name == source), None)
        if later is not None:
            raise ModelConfigError(f"{where} reads {source!r}, which comes only later ({later}); put that row first")
        names = [*self.names, *(f"P{i}" for i in range(2, 6))]
        raise ModelConfigError(f"{where} reads {source!r}, which is no row's name{did_you_mean(source, names)}")

    def _backbone_strides(self) -> Iterator[tuple[int, int]]:
        """Number and stride of each map of the backbone so far."""
        for layer in self.layers:
            if layer.in_backbone:
                for number in range(layer.i - layer.num_slots + 1, layer.i + 1):
                    if self.maps[number] is not None:
                        yield number, round(TRACE_SIZE / self.maps[number][2])


def _slots(shapes: list[Shape], where: str) -> list[Shape | None]:
    """Maps of the five numbers that a layer with several outputs takes: on the right."""
    if len(shapes) > SLOTS:
        raise ModelConfigError(f"{where}: gives {len(shapes)} outputs, expected at most {SLOTS}")
    return [None] * (SLOTS - len(shapes)) + list(shapes)


def _build_row(
    row: Row, where: str, context: RowContext, folders: Sequence[Path]
) -> tuple[nn.Module, list[Shape], int | tuple[int, ...] | None]:
    """The layer, its output shapes, and the channels its plan states."""
    entry = find_entry(row.module, row.where, folders)
    args = tuple(context.nc if arg == "nc" else arg for arg in row.args)
    if entry.plan is None:
        plan, layer, shapes, how = _inferred(entry, args, where, context, folders)
    else:
        _bind(entry.plan, (context, *args), f"{where}: its arguments are", skip=1)
        plan, how = _planned(entry.plan, context, args, where), entry.note
        plan = _without_weights(entry, plan) if context.from_checkpoint else plan
        layer = _construct(entry, plan, where)
        shapes = _run(layer, plan, context, where)
    _check_stated(plan.out, shapes, where)
    first = layer[0] if plan.copies > 1 else layer
    layer.type = f"{type(first).__module__}.{type(first).__qualname__}"
    layer.np = sum(p.numel() for p in layer.parameters())
    layer.arguments, layer.repeats, layer.assumed = _shown_call(entry, plan), plan.copies, how
    layer.unpack_inputs = takes_each_map(layer, len(context.inputs), context.takes_list)
    return layer, shapes, plan.out


def _without_weights(entry: RegisteredModule, plan: LayerSpec) -> LayerSpec:
    """The plan without the weights that its row names: a checkpoint has its own, and the file may be gone."""
    signature = inspect.signature(entry.build)
    try:
        bound = signature.bind(*plan.args, **plan.kwargs)
    except TypeError:  # told by `_construct`
        return plan
    for name in ("pretrained", "weights"):
        parameter = signature.parameters.get(name)
        if name in bound.arguments and parameter.default in (None, False, ""):
            bound.arguments[name] = parameter.default
    return replace(plan, args=bound.args, kwargs=bound.kwargs)


def _planned(function: PlanFunction, context: RowContext, args: tuple[Any, ...], where: str) -> LayerSpec:
    try:
        return function(context, *args)
    except BUILD_ERRORS as error:
        kind = "" if isinstance(error, ModelConfigError) else f"{type(error).__name__}: "
        raise ModelConfigError(f"{where}: its arguments {list(args)} cannot be used: {kind}{error}") from error


def _run(layer: nn.Module, plan: LayerSpec, context: RowContext, where: str) -> list[Shape]:
    """Output shapes of a layer for the row's inputs; where it fails the error ends with what to change."""
    inputs = [(1, c, *size) for c, size in zip(context.inputs, context.sizes, strict=True)]
    try:
        return output_shapes(layer, inputs, context.takes_list, where, known=context.from_checkpoint)
    except ModelConfigError as error:
        raise ModelConfigError(f"{error}{advice(layer, plan, context, where)}") from error


def _construct(entry: RegisteredModule, plan: LayerSpec, where: str) -> nn.Module:
    _bind(entry.build, plan.args, f"{where}: its constructor takes", kwargs=dict(plan.kwargs))
    try:
        copies = [entry.build(*plan.args, **plan.kwargs) for _ in range(plan.copies)]
    except ModelConfigError as error:
        raise ModelConfigError(f"{where}: {error}") from error
    except BUILD_ERRORS as error:
        shown = ", ".join(repr(a) for a in plan.args)
        raise ModelConfigError(f"{where}({shown}) cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(copies[0], nn.Module):
        raise ModelConfigError(f"{where}: {entry.name} gives a {type(copies[0]).__name__}; expected a torch.nn.Module")
    empty = next(((name, p.shape) for name, p in copies[0].named_parameters() if not p.numel()), None)
    if empty is not None:
        shown = ", ".join(repr(a) for a in plan.args)
        raise ModelConfigError(
            f"{where}({shown}): its parameter {empty[0]} is empty, {tuple(empty[1])}; is a divisor larger than the "
            f"channels?"
        )
    return copies[0] if len(copies) == 1 else nn.Sequential(*copies)


def _inferred(
    entry: RegisteredModule, args: tuple[Any, ...], where: str, context: RowContext, folders: Sequence[Path]
) -> tuple[LayerSpec, nn.Module, list[Shape], str]:
    """The likeliest reading of the row that is built and runs. The first one's error is told where none does."""
    first_error: ModelConfigError | None = None
    with_classes = tuple(_class_named(arg, context) for arg in args)  # some constructors look the name up themselves
    readings = dict.fromkeys([args, with_classes]) if with_classes != args else [args]
    for guess in (guess for reading in readings for guess in candidates(entry.build, context, reading)):
        state = torch.get_rng_state()  # an attempt that fails must not change the weights of the next
        plan = _without_weights(entry, guess.plan) if context.from_checkpoint else guess.plan
        try:
            layer = _construct(entry, plan, where)
            shapes = _run(layer, plan, context, where)
            if any(len(shape) != 4 for shape in shapes) and not takes_classes(entry.build):
                raise ModelConfigError(f"{where}: returns shapes {shapes}; expected maps (B, C, H, W)")
            as_known = entry.origin == "torch.nn" and plan.args == args
            return plan, layer, shapes, "" if as_known else guess.how
        except ModelConfigError as error:
            first_error = first_error or error
            torch.set_rng_state(state)
    if first_error is None:
        raise ModelConfigError(f"{where}: {no_candidate(entry.name, entry.build, context, args)}")
    blocks = (why_missing(arg, folders) for arg in args if isinstance(arg, str) and arg[:1].isupper())
    raise ModelConfigError(f"{first_error}{next(filter(None, blocks), '')}") from first_error


def _class_named(arg: Any, context: RowContext) -> Any:
    """The class behind an argument that names a module, such as BasicBlock; other arguments as they are."""
    if not (isinstance(arg, str) and arg[:1].isupper() and context.find is not None):
        return arg
    try:
        return context.find(arg).build
    except ModelConfigError:
        return arg


def _check_stated(stated: int | tuple[int, ...] | None, shapes: list[Shape], where: str) -> None:
    """The channels that a plan states have to be the real ones."""
    if isinstance(stated, tuple):
        real = tuple(shape[1] for shape in shapes)
        if real != stated:
            raise ModelConfigError(f"{where}: its plan states outputs of {stated} channels, its forward gives {real}")
    elif stated is not None and len(shapes[0]) == 4 and (len(shapes) > 1 or shapes[0][1] != stated):
        real = [shape[1:] for shape in shapes]
        raise ModelConfigError(f"{where}: its plan states one map of {stated} channels, its forward gives {real}")


def find_entry(name: str, where: str = "", folders: Sequence[Path] | None = None) -> RegisteredModule:
    """A module that registers itself, one that lies in a module folder, or a layer of torch.nn for `nn.NAME`.

    Raises:
        ModelConfigError: there is none, or several files define it; the message names the nearest, or the files.
    """
    prefix = f"{where}: " if where else ""
    if name.startswith(("nn.", "torch.nn.")):
        layer = getattr(nn, name.rsplit(".", 1)[1], None)
        if not (inspect.isclass(layer) and issubclass(layer, nn.Module)):
            raise ModelConfigError(f"{prefix}torch.nn has no layer {name!r}{did_you_mean(name[3:], dir(nn))}")
        return RegisteredModule(name, layer, None, "torch.nn")
    folders = module_folders() if folders is None else folders
    registered = find_registered(name, folders)
    try:
        if registered is None or registered.overridable:
            definition = find_definition(name, folders)
        else:
            definition = find_stronger(registered, folders)
    except ModelConfigError as error:
        raise ModelConfigError(f"{prefix}{error}") from None
    if definition is not None:
        plan = definition.entry.plan if definition.entry is not None else None
        return RegisteredModule(name, definition.build, plan, str(definition.file))
    if registered is not None:
        return registered
    reason = why_missing(name, folders) or did_you_mean(name, defined_names(folders))
    searched = ", ".join(map(str, folders))
    hint = f"; looked in {searched}. Name its folder by modules=FOLDER, or `modules:` in the model file"
    raise ModelConfigError(f"{prefix}no module {name!r}{reason or hint}")


def _bind(
    function: Any, args: Sequence[Any], intro: str, kwargs: Mapping[str, Any] | None = None, skip: int = 0
) -> None:
    """Check that arguments fit a signature; `skip` leading parameters are not the user's and are not shown."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # a built-in without a signature: its own error must do
        return
    try:
        signature.bind(*args, **(kwargs or {}))
    except TypeError as error:
        bare = [p.replace(annotation=p.empty) for p in list(signature.parameters.values())[skip:]]
        shown = ", ".join("..." if p.kind is p.VAR_POSITIONAL else str(p) for p in bare)
        given = [*args[skip:], *(f"{k}={v}" for k, v in (kwargs or {}).items())]
        raise ModelConfigError(f"{intro} ({shown}), got {given}: {error}") from None


def _shown_call(entry: RegisteredModule, plan: LayerSpec) -> str:
    """The arguments of a constructor call with their names."""
    signature = inspect.signature(entry.build)
    bound = signature.bind(*plan.args, **plan.kwargs)
    parts = []
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            parts += [_shown(v) for v in value]
        elif kind is inspect.Parameter.VAR_KEYWORD:
            parts += [f"{k}={_shown(v)}" for k, v in value.items()]
        else:
            parts.append(f"{name}={_shown(value)}")
    return ", ".join(parts)


def _shown(value: Any) -> str:
    return value.__name__ if inspect.isclass(value) else str(value)


@contextmanager
def default_activation(text: str | None, name: str) -> Iterator[None]:
    """Let `Conv` use the activation of a model file, such as `nn.ReLU()`, while the file is built."""
    if text is None:
        yield
        return
    match = re.fullmatch(r"(?:torch\.)?(?:nn\.)?(\w+)(?:\((.*)\))?", str(text).strip())
    kind = getattr(nn, match[1], None) if match else None
    if kind is None:
        raise ModelConfigError(f"{name}: activation {text!r} is not a layer of torch.nn, such as nn.ReLU()")
    try:
        arguments = ast.literal_eval(f"({match[2]},)") if match[2] else ()
        chosen = kind(*arguments)
    except (ValueError, SyntaxError, TypeError) as error:
        raise ModelConfigError(f"{name}: activation {text!r} cannot be built: {error}") from error
    before, Conv.default_act = Conv.default_act, chosen
    try:
        yield
    finally:
        Conv.default_act = before
