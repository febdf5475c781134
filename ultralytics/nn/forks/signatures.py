"""Infer the constructor call for a row whose module is not registered, as those written for other code bases.

Their constructors follow a few conventions, recognized by the names of the parameters. `candidates` lists the calls
that the conventions allow, the likeliest first; `nn/parser.py` takes the first that builds and runs on the row's
inputs.
"""

import inspect
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultralytics.nn import plans
from ultralytics.nn.forks.row_rules import fork_call
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import RegisteredModule, why_missing
from ultralytics.utils.errors import ModelConfigError

# Parameter names, in lower case and without underscores.
_CHANNELS = "(?:c|ch|chs|chan|chans|channel|channels|dim|dims|plane|planes|feature|features|feat|feats|filter|filters)"
INPUT = re.compile(
    rf"c1|nin|inps?|cin|insize|inputs?|dmodel|nf|embeddims?|hiddendim|midchannels"
    rf"|(?:in|inp|input|num|n|base|feat)?{_CHANNELS}|{_CHANNELS}(?:in|num)"
)
OUTPUT = re.compile(rf"c2|cout|oups?|outs?|nout|planes|embeddim|(?:ou|out|output){_CHANNELS}|{_CHANNELS}out")
REPEATS = re.compile("n|count")  # always in the second column of the row
KERNEL = re.compile("ks?|k(ernel)?(size)?")
NOT_REPEATS = re.compile(f"{KERNEL.pattern}|s|stride|p|pad(ding)?|g|groups?|d|dilation(rate)?|e|ratio|scale(factor)?")
CLASSES = re.compile("nc|numclass(?:es)?")
LENGTH = re.compile("length|n|nl|num|nin|numin|(?:n|num)inputs|inputnum|numlevels")
HEIGHT, WIDTH = re.compile("h|height|hin|fmaph"), re.compile("w|width|win|fmapw")
SIZE = re.compile(
    "hw|size|sizehw|(?:img|image|input|feat|feature|fmap|map|spatial|f|q|kv)size|(?:input|patches)?resolution"
)
CSP_LIKE = re.compile("C3|C2f|ELAN|CSP", re.IGNORECASE)  # class names of blocks that repeat an inner block
CSP_REPEATS = re.compile("(num|n)?(repeats?|blocks?|depths?|layers?|nums?)")  # their parameters
STRIDE = re.compile("s|strides?")
HEAD_SETTINGS = {"num_queries": "nq", "num_denoising": "nd"}  # parameters of published decoders
FORK_RULE = "as the fork's parse_model"
# Error messages of operators that run on another machine only.
NO_OPERATOR = re.compile(
    r"cuda|triton|\bgpu\b|nvidia|compiled|_OpNamespace|ninja|\.(?:cpp|cu)\b|mamba|natten|flash", re.IGNORECASE
)
MIN_CHANNELS = 16  # a smaller number in a row is a kernel, a stride or a factor
PARTS: dict[str, tuple[str, Callable[[RowContext, tuple[Any, ...]], Sequence[Any]]]] = {  # of a call pattern
    "c1": ("input channels", lambda ctx, row: [list(ctx.c1) if isinstance(ctx.c1, tuple) else ctx.c1]),
    "widths": ("the row's first argument as list of channels", lambda ctx, row: [[*map(ctx.scaled, row[0])]]),
    "c2": ("the row's first argument as output channels", lambda ctx, row: [ctx.scaled(row[0])]),
    "n": ("repeats", lambda ctx, row: [ctx.repeats]),
    "nc": ("number of classes", lambda ctx, row: [row[0] if row else ctx.nc]),
    "channels": ("list of the input channels", lambda ctx, row: [list(ctx.inputs)]),
    "each": ("channels of each input", lambda ctx, row: ctx.inputs),
    "sum": ("sum of the input channels", lambda ctx, row: [sum(ctx.inputs)]),
    "count": ("number of inputs", lambda ctx, row: [len(ctx.inputs)]),
    "row": ("the row's arguments", lambda ctx, row: row),
    "rest": ("the row's other arguments", lambda ctx, row: row[1:]),
}


def infer_call(
    module: RegisteredModule, row_name: str, args: tuple[Any, ...], where: str, context: RowContext,
    folders: Sequence[Path], construct: Callable[..., tuple[nn.Module, list[Any]]],
) -> tuple[LayerSpec, nn.Module, list[Any], str]:  # fmt: skip
    """Return the first call that `construct` builds and runs, its layer, its output shapes, and how it was inferred."""
    first_error, first_guess = None, None
    with_classes = tuple(_find_class(arg, context) for arg in args)  # some constructors look the name up themselves
    readings = [args] if with_classes == args else [args, with_classes]
    is_torch = module.origin in ("torch.nn", "torchvision.ops")
    rules = [fork_call(row_name, context, reading, folders) for reading in readings] if not is_torch else []
    guesses = [(rule, FORK_RULE) for rule in rules if rule is not None]
    guesses += [guess for reading in readings for guess in candidates(module.build, context, reading)]
    for guess, how in guesses:
        spec = _with_settings(module.build, guess, context.settings)
        state = torch.get_rng_state()  # a failed attempt must not change the weights of the next
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Initializing zero-element")  # of a call that is not used
                layer, shapes = construct(module, spec, args, context, where)
        except ModelConfigError as error:
            first_error, first_guess = first_error or error, first_guess or (spec, how)
            torch.set_rng_state(state)
            continue
        line = "" if is_torch else decorator(spec, context, args, [shape[1] for shape in shapes if len(shape) == 4])
        how = "" if is_torch and spec.args == args else how
        return spec, layer, shapes, f"{how}: {line}" if line else how
    if first_guess is None:
        raise ModelConfigError(
            f"{where}: its constructor takes {inspect.signature(module.build)}, which does not fit the row's arguments "
            f"{list(args)} with inputs of {list(context.inputs)} channels; decorate it: @register(PLAN)"
        )
    spec, how = first_guess
    blocks = (why_missing(arg, folders) for arg in args if isinstance(arg, str) and arg[:1].isupper())
    line = decorator(spec, context, args) or "@register(PLAN)"
    advice = "" if is_torch else f"; its arguments were inferred ({how}): {line} makes them explicit"
    raise ModelConfigError(f"{first_error}{next(filter(None, blocks), '')}{advice}") from first_error


def _find_class(arg: Any, context: RowContext) -> Any:
    """Return the class of an argument that names a module, such as BasicBlock; other arguments unchanged."""
    if not (isinstance(arg, str) and (arg[:1].isupper() or arg.startswith(("nn.", "torch.nn.")))):
        return arg
    try:
        return context.find(arg).build
    except ModelConfigError:
        return arg


def candidates(build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...]) -> Iterator[tuple[LayerSpec, str]]:
    """Yield constructor calls for a row, the likeliest first, with a description of where their arguments come from.

    Each call is yielded once, and only if the signature accepts it.
    """
    several = ctx.takes_list and len(ctx.inputs) > 1
    seen: list[LayerSpec] = []
    if (head := _head_call(build, ctx, args)) is not None:
        seen.append(head)
        yield head, "the row's arguments, list of the input channels by name"
    elif (stage := _stage_call(build, ctx, args)) is not None:
        seen.append(stage)
        yield stage, "input channels, the row's arguments, repeats at their place"
    for pattern in (_several_inputs if several else _one_input)(build, ctx, args):
        parts = pattern.split()
        if "c2" in parts and not (args and type(args[0]) is int and args[0] > 0):
            continue
        used = [(words, values(ctx, args)) for words, values in map(PARTS.get, parts)]
        call = tuple(value for _, values in used for value in values)
        copies = 1 if several or "n" in parts or "nc" in parts else ctx.repeats
        for kwargs in _missing_arguments(inspect.signature(build), call, ctx):
            spec = LayerSpec(call, None, copies, kwargs)
            if spec not in seen:
                seen.append(spec)
                how = [words for words, values in used if values]
                how += [f"{name}={value} by name" for name, value in kwargs.items()]
                yield spec, ", ".join(how) or "no arguments"


def decorator(spec: LayerSpec, ctx: RowContext, args: tuple[Any, ...], out: Sequence[int] = ()) -> str:
    """Return the line that makes an inferred call explicit, such as `@register(plans.conv)`, or '' if no plan fits.

    `out` are the channels of each output, if they were measured.
    """
    fitting = [plans.concat] if len(ctx.inputs) > 1 else [plans.conv, plans.csp, plans.channel_preserving]
    stock = {f"plans.{plan.__name__}": plan for plan in fitting}
    if len(out) > 1:
        stock = {f"plans.backbone({', '.join(map(str, out))})": plans.backbone(*out)}
    for name, plan in stock.items():
        try:
            planned = plan(ctx, *args)
        except (ModelConfigError, TypeError):  # the row does not fit this plan
            continue
        measured = tuple(out) if len(out) > 1 else out[0] if out else planned.out
        if planned == replace(spec, out=measured):
            return f"@register({name})"
    return ""


def _with_settings(build: Callable[..., Any], spec: LayerSpec, settings: Mapping[str, Any]) -> LayerSpec:
    """Replace arguments of a head by the settings of the file and the run for them, such as `num_queries`."""
    names = list(inspect.signature(build).parameters)
    if not (settings and names and CLASSES.fullmatch(_plain(names[0]))):
        return spec
    try:
        bound = inspect.signature(build).bind_partial(*spec.args, **spec.kwargs)
    except TypeError:
        return spec
    given = {name: value for key, value in settings.items() for name in (key, HEAD_SETTINGS.get(key)) if name in names}
    bound.arguments |= given
    return replace(spec, args=bound.args, kwargs=bound.kwargs)


def without_pretrained(build: Callable[..., Any], spec: LayerSpec) -> LayerSpec:
    """Remove the pretrained weights that a row names: a checkpoint has its own, and their file may be gone."""
    bound = inspect.signature(build).bind(*spec.args, **spec.kwargs)
    for name in {"pretrained", "weights"} & set(bound.arguments):
        if bound.signature.parameters[name].default in (None, False, ""):
            bound.arguments[name] = bound.signature.parameters[name].default
    return replace(spec, args=bound.args, kwargs=bound.kwargs)


def kernel_size(build: Callable[..., Any], spec: LayerSpec) -> int:
    """Return the kernel size that a constructor call gives by position or name; 0 if there is none."""
    given = dict(zip(_names(build), spec.args, strict=False)) | {_plain(k): v for k, v in spec.kwargs.items()}
    return max((v for k, v in given.items() if KERNEL.fullmatch(k) and type(v) is int), default=0)


def show_call(build: Callable[..., Any], spec: LayerSpec) -> str:
    """Return the arguments of a constructor call with their names: `c1=64, c2=128, k=3`."""
    bound = inspect.signature(build).bind(*spec.args, **spec.kwargs)
    names = [p.name for p in _positional(build)]
    unnamed = [(None, value) for value in bound.args[len(names) :]]
    pairs = [*zip(names, bound.args, strict=False), *unnamed, *bound.kwargs.items()]
    shown = [(name, value.__name__ if inspect.isclass(value) else value) for name, value in pairs]
    return ", ".join(f"{name}={value}" if name else str(value) for name, value in shown)


def _one_input(build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...]) -> Iterator[str]:
    first, second = [*_names(build), "", ""][:2]
    defaults = [p.default for p in inspect.signature(build).parameters.values()]
    of_torch = build.__module__.startswith("torch.nn")  # such rows usually write all arguments
    given, following = [arg if type(arg) is int else None for arg in (*args, None, None)[:2]]
    is_channels = given is not None and given >= MIN_CHANNELS
    if isinstance(ctx.c1, tuple):  # several maps under one number, of which most such rows choose one
        yield from ("row", "rest")
    if _is_widths(args):
        yield "c1 widths rest"
    if CLASSES.fullmatch(first) and INPUT.fullmatch(second):  # a head that takes a list of maps
        yield "nc channels rest"
    if INPUT.fullmatch(first) and OUTPUT.fullmatch(second):
        n = " n" if _takes_repeats(build, ctx.repeats) else ""
        if given == ctx.c1 and following and following >= MIN_CHANNELS and following % 8 == 0:
            yield "row"
        elif given is not None:
            yield f"c1 c2{n} rest"
        elif not args and defaults[1] is not inspect.Parameter.empty:
            yield "c1"
        else:
            yield f"c1 c1{n} row"
    elif INPUT.fullmatch(first) and of_torch and not args:
        yield "c1"
    elif INPUT.fullmatch(first) and not of_torch:
        if given == ctx.c1 or ctx.inputs == (3,):  # a backbone is built from its row alone
            yield "row"
        if starts_with_channels(args, ctx):
            yield "c1 rest"
        yield "c1 row"
    elif first and starts_with_channels(args, ctx) and (isinstance(defaults[0], float) or KERNEL.fullmatch(first)):
        yield "rest"
    elif first and not of_torch and not args and defaults[0] is False and ctx.inputs != (3,):
        yield "c1"  # other parsers give channels to each such module
    yield "row"
    if not of_torch:
        as_repeats = is_channels and _takes_repeats(build, 1)  # channels are no number of repeats
        yield from ("c1 row", *["c1 c2 rest"] * is_channels, *["c1 c1 row"] * (not as_repeats))


def _head_call(build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...]) -> LayerSpec | None:
    """Return the call of a dense head, whose constructor takes the classes first and `ch` after other arguments."""
    names = list(inspect.signature(build).parameters)
    position = names.index("ch") if "ch" in names else 0
    if not (ctx.takes_list and position > 1 and CLASSES.fullmatch(_plain(names[0])) and len(args) <= position):
        return None
    given = {names[0]: ctx.nc} | dict(zip(names, args, strict=False))
    return LayerSpec((), None, kwargs={**given, "ch": list(ctx.inputs)})


def _stage_call(build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...]) -> LayerSpec | None:
    """Return the call of a stage with inner channels, `(c1, cm, c2, k, n, ...)`, whose row leaves n out."""
    names = _names(build)
    position = next((i for i, name in enumerate(names) if REPEATS.fullmatch(name)), 0)
    fits = position > 2 and INPUT.fullmatch(names[0]) and OUTPUT.fullmatch(names[2]) and not ctx.takes_list
    if not fits or len(args) < 2 or OUTPUT.fullmatch(names[1]) or any(type(arg) is not int for arg in args[:2]):
        return None
    call = [ctx.c1, *args]
    if len(call) < position:
        return LayerSpec(tuple(call), None, kwargs={_positional(build)[position].name: ctx.repeats})
    return LayerSpec((*call[:position], ctx.repeats, *call[position:]), None)


def _several_inputs(build: Callable[..., Any], ctx: RowContext, args: tuple[Any, ...]) -> Iterator[str]:
    names = _names(build)
    first, second = [*names, "", ""][:2]
    given = args[0] if args and type(args[0]) is int else None
    if CLASSES.fullmatch(first):
        yield from ("nc channels rest", "row channels")
    if _is_widths(args):
        yield "channels widths rest"
    if args and isinstance(args[0], list):
        yield "row"
    if LENGTH.fullmatch(first):
        yield "count row"
        if len(names) == 1 and given != len(ctx.inputs):
            yield "count"
    if INPUT.fullmatch(first) or first.endswith(("list", "lists")):
        if (OUTPUT.fullmatch(second) or INPUT.fullmatch(second)) and given is not None:
            n = " n" if _takes_repeats(build, ctx.repeats) else ""
            yield from (f"channels c2{n} rest", f"sum c2{n} rest")
        if given in ctx.inputs:
            yield "row"
        # `dim` may also be the axis of a concatenation: then the row has a small number
        if not (first in ("dim", "dims") and given is not None and given < MIN_CHANNELS):
            yield from ("channels row", "c1 row", "each row")
    yield from ("row", "channels row", "count row", "channels c2 rest", "c1 row", "each row", "sum row", "row channels")
    if args and len(names) == 1:
        yield from ("channels", "c1")  # no parameter takes the row's arguments


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
    for names in (missing, dict.fromkeys([*missing, *sizes])):
        for square in (False, True):
            values = {name: _value(_plain(name), ctx, square) for name in names}
            if None not in values.values():
                yield values


def _value(name: str, ctx: RowContext, square: bool) -> Any:
    """Return the value for a parameter of that name, or None if the name is not recognized."""
    height, width = ctx.sizes[0]
    if HEIGHT.fullmatch(name):
        return height
    if WIDTH.fullmatch(name):
        return width
    if SIZE.fullmatch(name):
        return height if square else (height, width)
    if INPUT.fullmatch(name) or OUTPUT.fullmatch(name):
        return ctx.c1
    return ctx.nc if CLASSES.fullmatch(name) else None


def _takes_repeats(build: Callable[..., Any], repeats: int) -> bool:
    """Check whether the third parameter takes the repeats: by its name, or as a 1 by default that is no kernel etc."""
    for parameter in [*inspect.signature(build).parameters.values()][2:3]:
        name, default = _plain(parameter.name), parameter.default
        if CSP_LIKE.search(build.__name__) and CSP_REPEATS.fullmatch(name):
            return True
        by_default = repeats > 1 and type(default) is int and default == 1 and not NOT_REPEATS.fullmatch(name)
        return by_default or REPEATS.fullmatch(name) is not None
    return False


def starts_with_channels(args: tuple[Any, ...], ctx: RowContext) -> bool:
    """Check for a row whose first argument is the number of channels of its input."""
    given = args[0] if args and type(args[0]) is int else 0
    return given >= MIN_CHANNELS and ctx.scaled(given) == ctx.c1


def _is_widths(args: tuple[Any, ...]) -> bool:
    """Check for a row that starts with a list of channels."""
    first = args[0] if args and isinstance(args[0], list) else []
    return bool(first) and all(type(width) is int and width >= MIN_CHANNELS for width in first)


def lacks_operator(error: BaseException | None) -> bool:
    """Check whether a forward failed for an operator that this machine lacks, or that its file imports if it can."""
    absent = isinstance(error, NameError) or "'NoneType' object is not callable" in str(error)
    if error is not None and absent and error.__traceback__ is not None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        names = [error.name] if isinstance(error, NameError) else re.findall(r"(\w+)\(", frame.line or "")
        file = Path(frame.filename)
        text = file.read_text(encoding="utf-8-sig", errors="replace") if file.is_file() else ""
        return any(re.search(rf"^\s+.*\bimport\b.*\b{name}\b", text, re.MULTILINE) for name in names)
    return error is not None and bool(NO_OPERATOR.search(str(error)))


def stated_shape(build: Callable[..., Any], spec: LayerSpec, inputs: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of a map as a constructor call states it: by its output channels and its stride.

    Without these the output has the shape of the first input.
    """
    given = {_plain(p.name): p.default for p in _positional(build)}
    given |= dict(zip(_names(build), spec.args, strict=False)) | {_plain(k): v for k, v in spec.kwargs.items()}
    channels = [v for k, v in given.items() if OUTPUT.fullmatch(k) and type(v) is int]
    stride = next((v for k, v in given.items() if STRIDE.fullmatch(k) and type(v) is int and v > 0), 1)
    batch, before, height, width = inputs[0]
    return (batch, channels[0] if channels else before, -(-height // stride), -(-width // stride))


def _positional(build: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = inspect.signature(build).parameters.values()
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _names(build: Callable[..., Any]) -> list[str]:
    return [_plain(p.name) for p in _positional(build)]


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
