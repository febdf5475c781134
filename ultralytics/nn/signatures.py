"""Infer the constructor call for a row whose module is not registered, as those written for other code bases.

Their constructors follow a few conventions, recognized by the names of the parameters. `candidates` lists the calls
that the conventions allow, the likeliest first; `nn/parser.py` takes the first that builds and runs on the row's
inputs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ultralytics.nn import plans
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.utils.errors import ModelConfigError

# Parameter names, in lower case and without underscores.
_CHANNELS = "(?:c|ch|chs|chan|chans|channel|channels|dim|dims|plane|planes|feature|features|feat|feats|filter|filters)"
INPUT = re.compile(
    rf"c1|nin|inps?|cin|insize|inputs?|dmodel|nf|embeddims?|hiddendim|midchannels"
    rf"|(?:in|inp|input|num|n|base|feat)?{_CHANNELS}|{_CHANNELS}(?:in|num)"
)
OUTPUT = re.compile(rf"c2|cout|oups?|outs?|nout|planes|embeddim|(?:ou|out|output){_CHANNELS}|{_CHANNELS}out")
REPEATS = re.compile("n|count")  # always in the second column of the row
NOT_REPEATS = re.compile(
    "k|ks|kernel(?:size)?|s|stride|p|pad(?:ding)?|g|groups?|d|dilation(?:rate)?|e|ratio|scale(?:factor)?"
)
CLASSES = re.compile("nc|numclass(?:es)?")
LENGTH = re.compile("length|n|nl|num|nin|numin|(?:n|num)inputs|inputnum|numlevels")
HEIGHT, WIDTH = re.compile("h|height|hin|fmaph"), re.compile("w|width|win|fmapw")
SIZE = re.compile(
    "hw|size|sizehw|(?:img|image|input|feat|feature|fmap|map|spatial|f|q|kv)size|(?:input|patches)?resolution"
)
MIN_CHANNELS = 16  # a smaller number in a row is a kernel, a stride or a factor


@dataclass(frozen=True)
class Guess:
    """One way to read a row, and a description of where its arguments come from."""

    spec: LayerSpec
    how: str


def candidates(build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...]) -> Iterator[Guess]:
    """Yield constructor calls for a row, the likeliest first; each once, and only those that the signature accepts.

    Args:
        build: class or factory function.
        ctx: surroundings of the row.
        args: the row's arguments.
    """
    signature = inspect.signature(build)
    several = ctx.takes_list and len(ctx.inputs) > 1
    of_torch = build.__module__.startswith("torch.nn")
    guesses = _several_inputs(build, ctx, args) if several else _one_input(build, ctx, args, of_torch)
    seen: list[LayerSpec] = []
    for call, how, copies in guesses:
        for kwargs in _missing_arguments(signature, call, ctx):
            spec = LayerSpec(call, None, copies, kwargs)
            if spec not in seen:
                seen.append(spec)
                shown = f" ({', '.join(f'{k}={v}' for k, v in kwargs.items())} by name)" if kwargs else ""
                yield Guess(spec, how + shown)


def decorator(spec: LayerSpec, ctx: RowContext, args: tuple[Any, ...], out: Sequence[int] | None = None) -> str:
    """Return the line that makes an inferred call explicit, such as `@register(plans.conv)`, or '' if no plan fits.

    Args:
        spec: the inferred call.
        ctx: surroundings of the row.
        args: the row's arguments.
        out: channels of each output, where they were measured.
    """
    stock = ["conv", "csp", "channel_preserving", "concat"] if out is None or len(out) == 1 else []
    named = {name: getattr(plans, name) for name in stock}
    if out is not None and len(out) > 1:
        named[f"backbone({', '.join(map(str, out))})"] = plans.backbone(*out)
    for name, plan in named.items():
        try:
            planned = plan(ctx, *args)
        except (ModelConfigError, TypeError):  # this plan's rows are others
            continue
        measured = planned.out if out is None else out[0] if len(out) == 1 else tuple(out)
        if planned == replace(spec, out=measured):
            return f"@register(plans.{name})"
    return ""


def takes_classes(build: Callable[..., Any]) -> bool:
    """Check whether a constructor starts with the number of classes, as those of heads do."""
    names = _names(build)
    return bool(names) and CLASSES.fullmatch(names[0]) is not None


def without_pretrained(build: Callable[..., Any], spec: LayerSpec) -> LayerSpec:
    """Remove the pretrained weights that a row names: a checkpoint has its own, and their file may be gone."""
    signature = inspect.signature(build)
    try:
        bound = signature.bind(*spec.args, **spec.kwargs)
    except TypeError:  # `check_call` raises it with a message
        return spec
    for name in {"pretrained", "weights"} & set(bound.arguments):
        if signature.parameters[name].default in (None, False, ""):
            bound.arguments[name] = signature.parameters[name].default
    return replace(spec, args=bound.args, kwargs=bound.kwargs)


def check_call(
    function: Any, args: Sequence[Any], intro: str, kwargs: Mapping[str, Any] | None = None, skip: int = 0
) -> None:
    """Check that arguments fit a signature, whose first `skip` parameters are hidden from the user.

    Raises:
        ModelConfigError: they do not; the message starts with `intro` and shows the signature.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # a built-in without a signature: the call itself raises
        return
    try:
        signature.bind(*args, **(kwargs or {}))
    except TypeError as error:
        bare = [p.replace(annotation=p.empty) for p in list(signature.parameters.values())[skip:]]
        shown = ", ".join("..." if p.kind is p.VAR_POSITIONAL else str(p) for p in bare)
        given = [*args[skip:], *(f"{k}={v}" for k, v in (kwargs or {}).items())]
        raise ModelConfigError(f"{intro} ({shown}), got {given}: {error}") from None


def show_call(build: Callable[..., Any], spec: LayerSpec) -> str:
    """Return the arguments of a constructor call with their names: `c1=64, c2=128, k=3`."""
    signature = inspect.signature(build)
    parts = []
    for name, value in signature.bind(*spec.args, **spec.kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            parts += [_show(v) for v in value]
        else:
            named = value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
            parts += [f"{k}={_show(v)}" for k, v in named.items()]
    return ", ".join(parts)


def _show(value: Any) -> str:
    return value.__name__ if inspect.isclass(value) else str(value)


_Call = tuple[tuple[Any, ...], str, int]  # arguments, their description, copies


def _one_input(build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...], of_torch: bool) -> Iterator[_Call]:
    """Yield calls of a module with one input. Rows of torch's layers usually write all arguments."""
    c1, n = ctx.c1, ctx.repeats
    parameters = list(inspect.signature(build).parameters.values())
    names = _names(build)
    first, second = [*names, "", ""][:2]
    given = args[0] if args and type(args[0]) is int else None
    as_written = (args, "the row's arguments as written", n)
    input_first = ((c1, *args), "input channels, then the row's arguments", n)
    nothing_written = ((c1,), "input channels, as the row has no arguments", n)
    is_channels = given is not None and given >= MIN_CHANNELS
    if CLASSES.fullmatch(first) and INPUT.fullmatch(second):  # a head that takes a list of maps, given one
        yield (args[0] if args else ctx.nc, list(ctx.inputs), *args[1:]), "classes, then all input channels", 1
    if INPUT.fullmatch(first) and OUTPUT.fullmatch(second):
        inner, copies = ((n,), 1) if _takes_repeats(parameters, n) else ((), n)
        if given == c1 and len(args) > 1 and type(args[1]) is int and args[1] >= MIN_CHANNELS and args[1] % 8 == 0:
            yield as_written
        elif given is not None:
            how = "input channels, the row's first argument as output channels" + (", repeats" if inner else "")
            yield (c1, ctx.scaled(given), *inner, *args[1:]), how, copies
        elif not args and parameters[1].default is not parameters[1].empty:
            yield nothing_written
        else:
            yield (c1, c1, *inner, *args), "input channels twice, as the row has no channels", copies
    elif of_torch:
        if INPUT.fullmatch(first) and not args:
            yield nothing_written
    elif INPUT.fullmatch(first):
        if given == c1 or ctx.inputs == (3,):  # a backbone is built from its row alone
            yield as_written
        if is_channels and ctx.scaled(given) == c1:
            yield (c1, *args[1:]), "input channels in place of the row's first argument", n
        yield input_first
    elif not args and first and parameters[0].default is False:  # other parsers give channels to each such module
        yield (c1,), f"input channels, which switch {parameters[0].name} on ([False] keeps it off)", n
    yield as_written
    if not of_torch:
        yield input_first
        if is_channels:
            how = "input channels, the row's first argument as output channels"
            yield (c1, ctx.scaled(given), *args[1:]), how, n
        yield (c1, c1, *args), "input channels twice, then the row's arguments", n


def _several_inputs(build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...]) -> Iterator[_Call]:
    """Yield calls of a module with several inputs."""
    channels = list(ctx.inputs)
    names = _names(build)
    first, second = [*names, "", ""][:2]
    given = args[0] if args and type(args[0]) is int else None
    as_written = (args, "the row's arguments as written", 1)
    count = ((len(channels), *args), "the number of inputs, then the row's arguments", 1)
    channel_list = ((channels, *args), "list of the input channels, then the row's arguments", 1)
    one_channel = ((channels[0], *args), "channels of the first input, then the row's arguments", 1)
    each_channel = ((*channels, *args), "channels of each input, then the row's arguments", 1)
    unused = f"; no parameter takes the row's {list(args)}"
    if CLASSES.fullmatch(first):
        yield (args[0] if args else ctx.nc, channels, *args[1:]), "classes, then all input channels", 1
    if args and isinstance(args[0], list):
        yield as_written
    if LENGTH.fullmatch(first):
        yield count
        if len(names) == 1 and given != len(channels):
            yield (len(channels),), f"the number of inputs{unused}", 1
    if INPUT.fullmatch(first) or first.endswith(("list", "lists")):
        if (OUTPUT.fullmatch(second) or INPUT.fullmatch(second)) and given is not None:
            parameters = list(inspect.signature(build).parameters.values())
            rest = ((ctx.repeats,) if _takes_repeats(parameters, ctx.repeats) else ()) + args[1:]
            how = "the row's first argument as output channels"
            yield (channels, ctx.scaled(given), *rest), f"list of the input channels, {how}", 1
            yield (sum(channels), ctx.scaled(given), *rest), f"sum of the input channels, {how}", 1
        if given in channels:
            yield as_written
        # `dim` may also be the axis of a concatenation: then the row has a small number
        if not (first in ("dim", "dims") and given is not None and given < MIN_CHANNELS):
            yield from (channel_list, one_channel, each_channel)
    yield from (as_written, channel_list, count)
    if given is not None:
        how = "list of the input channels, the row's first argument as output channels"
        yield (channels, ctx.scaled(given), *args[1:]), how, 1
    yield from (one_channel, each_channel)
    yield (sum(channels), *args), "sum of the input channels, then the row's arguments", 1
    if args and len(names) == 1:
        yield (channels,), f"list of the input channels{unused}", 1
        yield (channels[0],), f"channels of the first input{unused}", 1


def _missing_arguments(signature: inspect.Signature, call: tuple[Any, ...], ctx: RowContext) -> Iterator[dict]:
    """Yield values by name for the parameters that a call lacks; nothing if the signature does not accept the call.

    Sizes are offered as (height, width) and as one side, also to parameters with a default.
    """
    try:
        bound = signature.bind_partial(*call).arguments
    except TypeError:
        return
    free = [p for p in signature.parameters.values() if p.name not in bound]
    free = [p for p in free if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in free if p.default is p.empty]
    sizes = [p.name for p in free if any(kind.fullmatch(_plain(p.name)) for kind in (HEIGHT, WIDTH, SIZE))]
    for names in [missing, list(dict.fromkeys([*missing, *sizes]))] if set(sizes) - set(missing) else [missing]:
        for square in (False, True) if sizes and ctx.sizes else (False,):
            values = {name: _value(_plain(name), ctx, square) for name in names}
            if None not in values.values():
                yield values


def _value(name: str, ctx: RowContext, square: bool) -> Any:
    """Return the value for a parameter of that name, or None if the name is not recognized."""
    height, width = ctx.sizes[0] if ctx.sizes else (None, None)
    if HEIGHT.fullmatch(name):
        return height
    if WIDTH.fullmatch(name):
        return width
    if SIZE.fullmatch(name) and height is not None:
        return height if square else (height, width)
    if INPUT.fullmatch(name) or OUTPUT.fullmatch(name):
        return ctx.c1
    return ctx.nc if CLASSES.fullmatch(name) else None


def _takes_repeats(parameters: list[inspect.Parameter], repeats: int) -> bool:
    """Check whether the third parameter takes the repeats: by its name, or as a 1 by default that is no kernel etc."""
    if len(parameters) < 3:
        return False
    name, default = _plain(parameters[2].name), parameters[2].default
    by_default = repeats > 1 and type(default) is int and default == 1 and not NOT_REPEATS.fullmatch(name)
    return REPEATS.fullmatch(name) is not None or by_default


def _names(build: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(build).parameters.values()
    return [_plain(p.name) for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
