"""From the rows of a model file to layers, each of which is run once on the meta device as soon as it is built."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import ultralytics.nn.modules  # noqa: F401 - registers the layers of the package
from ultralytics.cfg.model_yaml import PYRAMID, ModelSpec, Row
from ultralytics.nn.advice import advice
from ultralytics.nn.discovery import (
    defined_names,
    find_definition,
    find_registered,
    find_stronger,
    module_folders,
    why_missing,
)
from ultralytics.nn.infer import candidates, no_candidate, takes_classes
from ultralytics.nn.measure import Shape, output_shapes, takes_each_map
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import Context, Entry, Plan, PlanFunction
from ultralytics.utils.errors import ModelConfigError, did_you_mean

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
    listed: bool | None = None,
    modules: Sequence[str] = (),
) -> nn.Module:
    """One row on its own.

    Args:
        name: module, as a row names it.
        args: the row's arguments.
        inputs: (C, H, W) of each map it reads.
        repeats: the row's second column.
        listed: whether it gets its maps as a list; where there are several it does.
        modules: further folders with module files.

    Returns:
        The layer, described like those of a model, with `outputs`, (C, H, W) of each map it gives, and `stated`, the
        channels that its plan states (None where they are measured).

    Raises:
        ModelConfigError: it cannot be built, or does not run on these inputs.
    """
    listed = len(inputs) > 1 if listed is None else listed
    row = Row((-1,) * len(inputs), listed, repeats, name, tuple(args), "head", name)
    folders = module_folders(modules)
    context = Context(
        inputs=tuple(c for c, _, _ in inputs),
        repeats=repeats,
        sizes=tuple((h, w) for _, h, w in inputs),
        listed=listed,
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
        context = Context(
            inputs=tuple(shape[1] for shape in inputs),
            repeats=max(round(row.repeats * self.spec.depth), 1) if row.repeats > 1 else row.repeats,
            nc=self.nc,
            width=self.spec.width,
            max_channels=self.spec.max_channels,
            settings=self.spec.settings,
            sizes=tuple(shape[2:] for shape in inputs),
            listed=row.listed,
            find=lambda name: find_entry(name, where, self.folders),
            recorded=self.spec.recorded,
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
        layer.f = read if row.listed else read[0]
        layer.slots = SLOTS if several else 1
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
                for number in range(layer.i - layer.slots + 1, layer.i + 1):
                    if self.maps[number] is not None:
                        yield number, round(TRACE_SIZE / self.maps[number][2])


def _slots(shapes: list[Shape], where: str) -> list[Shape | None]:
    """Maps of the five numbers that a layer with several outputs takes: on the right."""
    if len(shapes) > SLOTS:
        raise ModelConfigError(f"{where}: gives {len(shapes)} outputs, expected at most {SLOTS}")
    return [None] * (SLOTS - len(shapes)) + list(shapes)


def _build_row(
    row: Row, where: str, context: Context, folders: Sequence[Path]
) -> tuple[nn.Module, list[Shape], int | tuple[int, ...] | None]:
    """The layer, its output shapes, and the channels its plan states."""
    entry = find_entry(row.module, row.where, folders)
    args = tuple(context.nc if arg == "nc" else arg for arg in row.args)
    if entry.plan is None:
        plan, layer, shapes, how = _inferred(entry, args, where, context, folders)
    else:
        _bind(entry.plan, (context, *args), f"{where}: its arguments are", skip=1)
        plan, how = _planned(entry.plan, context, args, where), entry.note
        plan = _without_weights(entry, plan) if context.recorded else plan
        layer = _construct(entry, plan, where)
        shapes = _run(layer, plan, context, where)
    _check_stated(plan.out, shapes, where)
    first = layer[0] if plan.copies > 1 else layer
    layer.type = f"{type(first).__module__}.{type(first).__qualname__}"
    layer.np = sum(p.numel() for p in layer.parameters())
    layer.arguments, layer.repeats, layer.assumed = _shown_call(entry, plan), plan.copies, how
    layer.spread = takes_each_map(layer, len(context.inputs), context.listed)
    return layer, shapes, plan.out


def _without_weights(entry: Entry, plan: Plan) -> Plan:
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


def _planned(function: PlanFunction, context: Context, args: tuple[Any, ...], where: str) -> Plan:
    try:
        return function(context, *args)
    except BUILD_ERRORS as error:
        kind = "" if isinstance(error, ModelConfigError) else f"{type(error).__name__}: "
        raise ModelConfigError(f"{where}: its arguments {list(args)} cannot be used: {kind}{error}") from error


def _run(layer: nn.Module, plan: Plan, context: Context, where: str) -> list[Shape]:
    """Output shapes of a layer for the row's inputs; where it fails the error ends with what to change."""
    inputs = [(1, c, *size) for c, size in zip(context.inputs, context.sizes, strict=True)]
    try:
        return output_shapes(layer, inputs, context.listed, where, known=context.recorded)
    except ModelConfigError as error:
        raise ModelConfigError(f"{error}{advice(layer, plan, context, where)}") from error


def _construct(entry: Entry, plan: Plan, where: str) -> nn.Module:
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
    entry: Entry, args: tuple[Any, ...], where: str, context: Context, folders: Sequence[Path]
) -> tuple[Plan, nn.Module, list[Shape], str]:
    """The likeliest reading of the row that is built and runs. The first one's error is told where none does."""
    first_error: ModelConfigError | None = None
    with_classes = tuple(_class_named(arg, context) for arg in args)  # some constructors look the name up themselves
    readings = dict.fromkeys([args, with_classes]) if with_classes != args else [args]
    for guess in (guess for reading in readings for guess in candidates(entry.build, context, reading)):
        state = torch.get_rng_state()  # an attempt that fails must not change the weights of the next
        plan = _without_weights(entry, guess.plan) if context.recorded else guess.plan
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


def _class_named(arg: Any, context: Context) -> Any:
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


def find_entry(name: str, where: str = "", folders: Sequence[Path] | None = None) -> Entry:
    """A module that registers itself, one that lies in a module folder, or a layer of torch.nn for `nn.NAME`.

    Raises:
        ModelConfigError: there is none, or several files define it; the message names the nearest, or the files.
    """
    prefix = f"{where}: " if where else ""
    if name.startswith(("nn.", "torch.nn.")):
        layer = getattr(nn, name.rsplit(".", 1)[1], None)
        if not (inspect.isclass(layer) and issubclass(layer, nn.Module)):
            raise ModelConfigError(f"{prefix}torch.nn has no layer {name!r}{did_you_mean(name[3:], dir(nn))}")
        return Entry(name, layer, None, "torch.nn")
    folders = module_folders() if folders is None else folders
    registered = find_registered(name, folders)
    try:
        if registered is None or registered.yields:
            definition = find_definition(name, folders)
        else:
            definition = find_stronger(registered, folders)
    except ModelConfigError as error:
        raise ModelConfigError(f"{prefix}{error}") from None
    if definition is not None:
        plan = definition.entry.plan if definition.entry is not None else None
        return Entry(name, definition.build, plan, str(definition.file))
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


def _shown_call(entry: Entry, plan: Plan) -> str:
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
