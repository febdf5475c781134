"""From the rows of a model file to layers."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

import ultralytics.nn.modules  # noqa: F401 - registers the layers of the package
from ultralytics.cfg.model_yaml import ModelSpec, Row
from ultralytics.nn import plans
from ultralytics.nn.discovery import import_addmodules
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import REGISTRY, Context, Entry, Plan
from ultralytics.utils.errors import ModelConfigError, did_you_mean

SLOTS = 5  # places a layer with several outputs takes in the numbering: strides 2, 4, 8, 16, 32


def build_layers(spec: ModelSpec, nc: int, ch: int) -> tuple[nn.Sequential, list[int]]:
    """Build every row of a model file.

    Each layer gets the attributes `i` (its number; the last of five for a layer with several outputs), `f` (what it
    reads, as written), `type`, `np` (parameters), `slots` (1 or 5), `where` (file and line) and `in_backbone`.

    Returns:
        The layers, and the sorted numbers of those whose output a later layer reads by number.

    Raises:
        ModelConfigError: a row cannot be built; the message names file, line, layer and module.
    """
    layers: list[nn.Module] = []
    channels: list[int | None] = []  # by layer number; None for an empty slot
    save: set[int] = set()
    with default_activation(spec.activation, spec.name):
        for row in spec.rows:
            number = len(channels)
            sources = [_resolve(source, number, channels, row) for source in row.sources]
            save.update(s for s, written in zip(sources, row.sources, strict=True) if written != -1)
            inputs = tuple(ch if s < 0 else channels[s] for s in sources)
            repeats = max(round(row.repeats * spec.depth), 1) if row.repeats > 1 else row.repeats
            context = Context(inputs, repeats, nc, spec.width, spec.max_channels, spec.settings)
            layer, out = _build_row(row, number, context)
            channels.extend(_slots(out, row))
            layer.i, layer.f = len(channels) - 1, list(row.sources) if row.listed else row.sources[0]
            layer.slots = SLOTS if isinstance(out, tuple) else 1
            layer.where, layer.in_backbone = row.where, row.section == "backbone"
            layers.append(layer)
    return nn.Sequential(*layers), sorted(save)


def _resolve(source: int, number: int, channels: Sequence[int | None], row: Row) -> int:
    """Absolute number of a source; -1 for the image, which only the first layer reads."""
    absolute = source if source >= 0 else number + source
    if number == 0 and source == -1:
        return -1
    if not 0 <= absolute < number:
        raise ModelConfigError(
            f"{row.where}: layer {number} {row.module} reads from {source}, but only 0 to {number - 1} exist"
        )
    if channels[absolute] is None:
        full = [i for i, c in enumerate(channels) if c is not None]
        raise ModelConfigError(
            f"{row.where}: layer {number} {row.module} reads from {source}, an empty slot of the backbone "
            f"(it has fewer than {SLOTS} outputs); layers with an output: {full}"
        )
    return absolute


def _slots(out: int | tuple[int, ...], row: Row) -> list[int | None]:
    """Channels of the numbers a layer takes: one, or five with the outputs on the right."""
    if not isinstance(out, tuple):
        return [out]
    if len(out) > SLOTS:
        raise ModelConfigError(f"{row.where}: {row.module} has {len(out)} outputs, expected at most {SLOTS}")
    return [None] * (SLOTS - len(out)) + list(out)


def _build_row(row: Row, number: int, context: Context) -> tuple[nn.Module, int | tuple[int, ...]]:
    entry = find_entry(row.module, row.where)
    where = f"{row.where}: layer {number} {row.module}"
    args = [context.nc if arg == "nc" else arg for arg in row.args]
    _bind(entry.plan, (context, *args), f"{where}: its arguments are", skip=1)
    plan: Plan = entry.plan(context, *args)
    _bind(entry.build, plan.args, f"{where}: its constructor takes", kwargs=dict(plan.kwargs))
    try:
        copies = [entry.build(*plan.args, **plan.kwargs) for _ in range(plan.copies)]
    except ModelConfigError as error:
        raise ModelConfigError(f"{where}: {error}") from error
    except (TypeError, ValueError, AssertionError, RuntimeError, IndexError, KeyError, ZeroDivisionError) as error:
        shown = ", ".join(repr(a) for a in plan.args)
        raise ModelConfigError(f"{where}({shown}) cannot be built: {type(error).__name__}: {error}") from error
    layer = copies[0] if len(copies) == 1 else nn.Sequential(*copies)
    layer.type = f"{type(copies[0]).__module__}.{type(copies[0]).__qualname__}"
    layer.np = sum(p.numel() for p in layer.parameters())
    out = _measured_channels(layer, context, where) if plan.out is None else plan.out
    return layer, out


def find_entry(name: str, where: str = "") -> Entry:
    """Registered module of that name, or a layer of torch.nn for `nn.NAME`.

    Raises:
        ModelConfigError: there is none; the message names the nearest.
    """
    prefix = f"{where}: " if where else ""
    if name.startswith(("nn.", "torch.nn.")):
        layer = getattr(nn, name.rsplit(".", 1)[1], None)
        if not (inspect.isclass(layer) and issubclass(layer, nn.Module)):
            raise ModelConfigError(f"{prefix}torch.nn has no layer {name!r}{did_you_mean(name[3:], dir(nn))}")
        return Entry(name, layer, plans.torch_layer, "torch.nn")
    failures = import_addmodules()
    try:
        return REGISTRY[name]
    except ModelConfigError as error:
        failed = "".join(f" (not imported: {file}: {reason})" for file, reason in failures.items())
        raise ModelConfigError(f"{prefix}{error}{failed}") from None


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


def _measured_channels(layer: nn.Module, context: Context, where: str) -> int:
    """Output channels of a layer, from a run on the meta device, which costs nothing and changes no statistics."""
    inputs = [torch.empty(2, c, 64, 64, device="meta") for c in context.inputs]
    try:
        return copy.deepcopy(layer).to("meta")(inputs[0] if len(inputs) == 1 else inputs).shape[1]
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        shapes = [tuple(x.shape) for x in inputs]
        raise ModelConfigError(f"{where}: fails on inputs {shapes}: {str(error).splitlines()[0]}") from error


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
    arguments = ast.literal_eval(f"({match[2]},)") if match[2] else ()
    before, Conv.default_act = Conv.default_act, kind(*arguments)
    try:
        yield
    finally:
        Conv.default_act = before
