"""Constructor arguments of modules that do not say how their row is read: those written for other code bases.

Their constructors follow a few customs, told by the names of the parameters. `candidates` lists the calls that the
customs allow, the likeliest first; `build.py` takes the first that is built and runs on the row's inputs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.utils.errors import ModelConfigError

# Names of parameters, in lower case and without underscores.
_CHANNELS = "(?:c|ch|chs|chan|chans|channel|channels|dim|dims|plane|planes|feature|features|feat|feats|filter|filters)"
INPUT = re.compile(
    rf"c1|nin|inps?|cin|insize|inputs?|dmodel|nf|embeddims?|hiddendim|midchannels"
    rf"|(?:in|inp|input|num|n|base|feat)?{_CHANNELS}|{_CHANNELS}(?:in|num)"
)
OUTPUT = re.compile(rf"c2|cout|oups?|outs?|nout|planes|embeddim|(?:ou|out|output){_CHANNELS}|{_CHANNELS}out")
REPEATS = re.compile("n|count")  # always in the second column of the row
OTHER_THIRD = re.compile(
    "k|ks|kernel(?:size)?|s|stride|p|pad(?:ding)?|g|groups?|d|dilation(?:rate)?|e|ratio|scale(?:factor)?"
)
CLASSES = re.compile("nc|numclass(?:es)?")
LENGTH = re.compile("length|n|nl|num|nin|numin|(?:n|num)inputs|inputnum|numlevels")
HEIGHT, WIDTH = re.compile("h|height|hin|fmaph"), re.compile("w|width|win|fmapw")
SIZE = re.compile(
    "hw|size|sizehw|(?:img|image|input|feat|feature|fmap|map|spatial|f|q|kv)size|(?:input|patches)?resolution"
)
IMAGE = (3,)
CHANNELS_FROM = 16  # a number below this is a kernel, a stride or a factor rather than a count of channels


@dataclass(frozen=True)
class Guess:
    """One way to read a row, and in words where its arguments come from."""

    plan: LayerSpec
    how: str


@dataclass(frozen=True)
class _Call:
    args: tuple[Any, ...]
    how: str
    copies: int = 1
    kwargs: dict[str, Any] = field(default_factory=dict)


def candidates(build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...]) -> Iterator[Guess]:
    """Constructor calls for a row, the likeliest first; only those that the signature admits, each once.

    Args:
        build: class or factory function.
        ctx: what surrounds the row.
        args: the row's arguments.
    """
    signature = inspect.signature(build)
    names = [_plain(name) for name in _positional(signature)]
    if ctx.takes_list and len(ctx.inputs) > 1:
        calls = _for_list(names, ctx, args, signature)
    else:
        calls = _for_one(names, ctx, args, signature, of_torch=build.__module__.startswith("torch.nn"))
    seen = []
    for call in calls:
        for filled in _fill(signature, call, ctx):
            key = (filled.args, filled.kwargs, filled.copies)
            if key not in seen:
                seen.append(key)
                yield Guess(LayerSpec(filled.args, None, filled.copies, filled.kwargs), filled.how)


def _for_one(
    names: list[str], ctx: RowContext, args: tuple[Any, ...], signature: inspect.Signature, of_torch: bool
) -> Iterator[_Call]:
    """Calls of a module with one input. Of a layer of torch only few: people know its signature and write it out."""
    c1, n = ctx.c1, ctx.repeats
    first, second = [*names, "", ""][:2]
    given = args[0] if args and type(args[0]) is int else None
    raw = _Call(args, "the row's arguments as they stand", n)
    if CLASSES.fullmatch(first) and INPUT.fullmatch(second):  # a head that takes a list of maps, given one
        yield _Call((args[0] if args else ctx.nc, list(ctx.inputs), *args[1:]), "classes, then all input channels")
    if INPUT.fullmatch(first) and OUTPUT.fullmatch(second):
        inner, copies = ((n,), 1) if _is_repeats(signature, 2, n) else ((), n)
        if given == c1 and len(args) > 1 and _is_channels(args[1]):
            yield raw
        elif given is not None:
            how = "input channels, the row's first argument as output channels" + (", repeats" if inner else "")
            yield _Call((c1, ctx.scaled(given), *inner, *args[1:]), how, copies)
        elif not args and not _required(signature, 1):
            yield _Call((c1,), "input channels, as the row says nothing", n)
        else:
            yield _Call((c1, c1, *inner, *args), "input channels twice, as the row says nothing of channels", copies)
    elif of_torch:
        if INPUT.fullmatch(first) and not args:
            yield _Call((c1,), "input channels, as the row says nothing", n)
    elif INPUT.fullmatch(first):
        if given == c1 or ctx.inputs == IMAGE:  # a backbone is built from its row alone
            yield raw
        if given is not None and given >= CHANNELS_FROM and ctx.scaled(given) == c1:
            yield _Call((c1, *args[1:]), "input channels in place of the row's first argument", n)
        yield _Call((c1, *args), "input channels, then the row's arguments", n)
    elif not args and first and _is_off(signature):  # other parsers give channels to every module of such a row
        yield _Call((c1,), f"input channels, which switch {_positional(signature)[0]} on ([False] keeps it off)", n)
    yield raw
    if of_torch:
        return
    yield _Call((c1, *args), "input channels, then the row's arguments", n)
    if given is not None and given >= CHANNELS_FROM:
        how = "input channels, the row's first argument as output channels"
        yield _Call((c1, ctx.scaled(given), *args[1:]), how, n)
    yield _Call((c1, c1, *args), "input channels twice, then the row's arguments", n)


def _for_list(
    names: list[str], ctx: RowContext, args: tuple[Any, ...], signature: inspect.Signature
) -> Iterator[_Call]:
    """Calls of a module with several inputs."""
    channels = list(ctx.inputs)
    first, second = [*names, "", ""][:2]
    given = args[0] if args and type(args[0]) is int else None
    raw = _Call(args, "the row's arguments as they stand")
    count = _Call((len(channels), *args), "the number of inputs, then the row's arguments")
    takes_list = _Call((channels, *args), "list of the input channels, then the row's arguments")
    if CLASSES.fullmatch(first):
        yield _Call((args[0] if args else ctx.nc, channels, *args[1:]), "classes, then all input channels")
    if args and isinstance(args[0], list):
        yield raw
    unread = f"; the row's {list(args)} finds no parameter"
    if LENGTH.fullmatch(first):
        yield count
        if len(names) == 1 and given != len(channels):
            yield _Call((len(channels),), f"the number of inputs{unread}")
    if INPUT.fullmatch(first) or first.endswith(("list", "lists")):
        if (OUTPUT.fullmatch(second) or INPUT.fullmatch(second)) and given is not None:
            inner = (ctx.repeats,) if _is_repeats(signature, 2, ctx.repeats) else ()
            how = "the row's first argument as output channels"
            yield _Call((channels, ctx.scaled(given), *inner, *args[1:]), f"list of the input channels, {how}")
            yield _Call((sum(channels), ctx.scaled(given), *inner, *args[1:]), f"sum of the input channels, {how}")
        if given in channels:
            yield raw
        # `dim` may also be the axis to join along: a small number in the row is that
        if not (first in ("dim", "dims") and given is not None and given < CHANNELS_FROM):
            yield takes_list
            yield _Call((channels[0], *args), "channels of the first input, then the row's arguments")
            yield _Call((*channels, *args), "channels of each input, then the row's arguments")
    yield from (raw, takes_list, count)
    if given is not None:
        yield _Call((channels, ctx.scaled(given), *args[1:]), "list of the input channels, the row's output channels")
    yield _Call((channels[0], *args), "channels of the first input, then the row's arguments")
    yield _Call((*channels, *args), "channels of each input, then the row's arguments")
    yield _Call((sum(channels), *args), "sum of the input channels, then the row's arguments")
    if args and len(names) == 1:
        yield _Call((channels,), f"list of the input channels{unread}")
        yield _Call((channels[0],), f"channels of the first input{unread}")


def _fill(signature: inspect.Signature, call: _Call, ctx: RowContext) -> Iterator[_Call]:
    """The call if the signature admits it; parameters still missing are filled by their names, sizes in each form."""
    try:
        bound = signature.bind_partial(*call.args)
    except TypeError:
        return
    free = [p for p in signature.parameters.values() if p.name not in bound.arguments]
    free = [p for p in free if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in free if p.default is p.empty]
    sizes = [p.name for p in free if any(kind.fullmatch(_plain(p.name)) for kind in (HEIGHT, WIDTH, SIZE))]
    wanted = (
        [missing] if not sizes or set(sizes) <= set(missing) else [missing, list(dict.fromkeys([*missing, *sizes]))]
    )
    for names in wanted:
        for square in (False, True) if sizes and ctx.sizes else (False,):
            values = {name: _value(_plain(name), ctx, square) for name in names}
            if None not in values.values():
                shown = f" ({', '.join(f'{k}={v}' for k, v in values.items())} by name)" if values else ""
                yield _Call(call.args, call.how + shown, call.copies, values)


def _value(name: str, ctx: RowContext, square: bool) -> Any:
    """What a parameter of that name stands for in this row; None where the name tells nothing."""
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


def takes_classes(build: Callable[..., Any]) -> bool:
    """Whether a constructor starts with the number of classes, as those of heads do."""
    names = _positional(inspect.signature(build))
    return bool(names) and CLASSES.fullmatch(_plain(names[0])) is not None


def _is_channels(value: Any) -> bool:
    return type(value) is int and value >= CHANNELS_FROM and value % 8 == 0


def _is_repeats(signature: inspect.Signature, index: int, repeats: int) -> bool:
    """Whether a parameter takes the repeats: by its name, or as a number that is 1 unless given and no kernel or so."""
    parameters = list(signature.parameters.values())
    if len(parameters) <= index:
        return False
    name, default = _plain(parameters[index].name), parameters[index].default
    by_default = repeats > 1 and type(default) is int and default == 1 and not OTHER_THIRD.fullmatch(name)
    return REPEATS.fullmatch(name) is not None or by_default


def _required(signature: inspect.Signature, index: int) -> bool:
    parameter = list(signature.parameters.values())[index]
    return parameter.default is parameter.empty


def _is_off(signature: inspect.Signature) -> bool:
    """Whether the first parameter is a switch that is off unless given."""
    return next(iter(signature.parameters.values())).default is False


def _positional(signature: inspect.Signature) -> list[str]:
    return [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def no_candidate(name: str, build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...]) -> ModelConfigError:
    """The error for a row that no custom fits."""
    signature = inspect.signature(build)
    return ModelConfigError(
        f"its constructor takes {signature}, which does not fit the row's arguments {list(args)} with inputs of "
        f"{list(ctx.inputs)} channels; give {name} a plan: @register(plans.conv) or one of its own"
    )
