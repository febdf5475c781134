"""Plans: how a row of a model file becomes a constructor call.

Its parameters after `ctx` are the grammar of the row's last column. Most modules share one of the five plans below.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ultralytics.utils.errors import ModelConfigError


@dataclass(frozen=True)
class RowContext:
    """What a plan may use besides the row's arguments."""

    inputs: tuple[int, ...]  # channels of each input map; a tuple for several maps under one number
    repeats: int = 1  # second column of the row, multiplied by the depth of the scale
    nc: int = 80  # number of classes
    width: float = 1.0  # channel multiplier of the scale
    max_channels: float = float("inf")  # channel limit of the scale, applied before `width`
    scale: str = ""  # name of the scale, such as `n`
    settings: Mapping[str, Any] = field(default_factory=dict)  # top-level keys for the head, such as `num_queries`
    sizes: tuple[tuple[int, int], ...] = ()  # (height, width) of each input map, for an image of 640 x 640
    takes_list: bool = False  # whether the row lists its inputs in brackets
    find: Callable[[str], Any] | None = None  # returns a module by its name, for rows that name one as an argument
    earlier: tuple[str, ...] = ()  # modules of the rows before
    light: bool | None = None  # whether the head has the light class branch, if a fork's parser decides
    last: int | tuple[int, ...] | None = None  # channels of the layer before, whether the row reads it or not
    from_checkpoint: bool = False  # whether a checkpoint's weights are loaded next, instead of pretrained ones

    @property
    def c1(self) -> int:
        """Channels of the first input."""
        return self.inputs[0]

    def scaled(self, channels: int) -> int:
        """Return output channels limited to `max_channels`, times `width`, rounded up to a multiple of 8."""
        if not isinstance(channels, int | float) or channels <= 0:
            raise ModelConfigError(f"output channels must be a number above 0, got {channels!r}")
        if channels == self.nc:
            return channels
        return max(8, -int(-min(channels, self.max_channels) * self.width // 8) * 8)

    def require_once(self) -> None:
        """Raise ModelConfigError if the second column of the row is not 1."""
        if self.repeats != 1:
            raise ModelConfigError(f"it cannot be repeated; write 1 in the second column, got {self.repeats}")


@dataclass(frozen=True)
class LayerSpec:
    """The constructor call for a row, and the channels of its output."""

    args: tuple[Any, ...]
    out: int | tuple[int, ...] | list[int] | None  # a tuple for several outputs, a list for maps of one size under one
    # number, which a later row reads together; None to measure them on the meta device
    copies: int = 1  # instances in sequence
    kwargs: Mapping[str, Any] = field(default_factory=dict)


PlanFunction = Callable[..., LayerSpec]


def expected_arguments(plan: PlanFunction, args: Sequence[Any]) -> str:
    """Return what a row of the plan takes, if the number of `args` is wrong, else ''."""
    signature = inspect.signature(plan)
    try:
        signature.bind(None, *args)
    except TypeError:
        return f"expected [{', '.join(map(str, [*signature.parameters.values()][1:]))}]"
    return ""


def conv(ctx: RowContext, c2: int, *args: Any) -> LayerSpec:
    """Read `[c2, k, s, ...]` for a constructor `(c1, c2, k, s, ...)`; repeats are modules in sequence.

    Examples:
        >>> conv(RowContext(inputs=(64,)), 128, 3, 2)
        LayerSpec(args=(64, 128, 3, 2), out=128, copies=1, kwargs={})
    """
    c2 = ctx.scaled(c2)
    return LayerSpec((ctx.c1, c2, *args), c2, copies=ctx.repeats)


def csp(ctx: RowContext, c2: int, *args: Any) -> LayerSpec:
    """Read `[c2, ...]` for a constructor `(c1, c2, n, ...)` that repeats its inner block itself."""
    c2 = ctx.scaled(c2)
    return LayerSpec((ctx.c1, c2, ctx.repeats, *args), c2)


def channel_preserving(ctx: RowContext, *args: Any) -> LayerSpec:
    """Read `[...]` for a constructor `(channels, ...)` whose output has the channels of its input, as in attention.

    Examples:
        >>> channel_preserving(RowContext(inputs=(64,)), 16).args
        (64, 16)
    """
    return LayerSpec((ctx.c1, *args), ctx.c1, copies=ctx.repeats)


def concat(ctx: RowContext, dim: int = 1) -> LayerSpec:
    """Read `[dim]` for a constructor `(dim)` that concatenates all inputs along the channels."""
    ctx.require_once()
    return LayerSpec((dim,), sum(ctx.inputs))


def backbone(*widths: int) -> PlanFunction:
    """Return the plan of a network with several outputs of `widths` channels, finest map first."""

    def plan(ctx: RowContext, *args: Any) -> LayerSpec:
        ctx.require_once()
        return LayerSpec(args, widths)

    return plan
