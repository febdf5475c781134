"""The shapes of YAML rows that most modules share. Each function's parameters after `ctx` are the row's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ultralytics.utils.errors import ModelConfigError


@dataclass(frozen=True)
class RowContext:
    """What surrounds a row.

    Attributes:
        inputs: channels of each input feature map.
        repeats: second column of the row, already multiplied by the depth scale.
        nc: number of classes.
        width: channel multiplier of the scale.
        max_channels: channel cap of the scale, applied before `width`.
        settings: the other top-level keys of the YAML, such as `num_queries`.
        sizes: height and width of each input feature map, for an image of 640 x 640.
        takes_list: whether the row gives its inputs as a list.
        find: the entry of a module by its name, for rows that name one among their arguments.
        from_checkpoint: whether weights are loaded next, so that those which a row names are not wanted.
    """

    inputs: tuple[int, ...]
    repeats: int = 1
    nc: int = 80
    width: float = 1.0
    max_channels: float = float("inf")
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    takes_list: bool = False
    find: Callable[[str], Any] | None = None
    from_checkpoint: bool = False

    @property
    def c1(self) -> int:
        """Channels of the first input."""
        return self.inputs[0]

    def scaled(self, channels: int) -> int:
        """Output channels after the cap and the width of the scale, rounded up to a multiple of 8.

        Raises:
            ModelConfigError: `channels` is not a number above 0.
        """
        if not isinstance(channels, int | float) or channels <= 0:
            raise ModelConfigError(f"output channels must be a number above 0, got {channels!r}")
        if channels == self.nc:
            return channels
        return max(8, -int(-min(channels, self.max_channels) * self.width // 8) * 8)

    def require_once(self) -> None:
        """Refuse repeats in a row whose module has no use for them, rather than pass over them.

        Raises:
            ModelConfigError: the second column of the row is not 1.
        """
        if self.repeats != 1:
            raise ModelConfigError(
                f"it cannot be repeated; write 1 in the second column of the row, got {self.repeats}"
            )


@dataclass(frozen=True)
class LayerSpec:
    """How to build a row.

    Attributes:
        args: positional constructor arguments.
        out: output channels; a tuple for a layer with several outputs; None where a run on the meta device tells.
        copies: how many instances stand in sequence.
        kwargs: keyword constructor arguments.
    """

    args: tuple[Any, ...]
    out: int | tuple[int, ...] | None
    copies: int = 1
    kwargs: Mapping[str, Any] = field(default_factory=dict)


PlanFunction = Callable[..., LayerSpec]


def conv(ctx: RowContext, c2: int, *args: Any) -> LayerSpec:
    """`[c2, k, s, ...]` for a constructor (c1, c2, k, s, ...); repeats stand in sequence."""
    c2 = ctx.scaled(c2)
    return LayerSpec((ctx.c1, c2, *args), c2, copies=ctx.repeats)


def csp(ctx: RowContext, c2: int, *args: Any) -> LayerSpec:
    """`[c2, ...]` for a constructor (c1, c2, n, ...) that repeats its inner block itself."""
    c2 = ctx.scaled(c2)
    return LayerSpec((ctx.c1, c2, ctx.repeats, *args), c2)


def channel_preserving(ctx: RowContext, *args: Any) -> LayerSpec:
    """`[...]` for a constructor (channels, ...) whose output has the input's channels, such as attention."""
    return LayerSpec((ctx.c1, *args), ctx.c1, copies=ctx.repeats)


def concat(ctx: RowContext, dim: int = 1) -> LayerSpec:
    """`[dim]`: all inputs, one after the other along the channels."""
    ctx.require_once()
    return LayerSpec((dim,), sum(ctx.inputs))


def backbone(*widths: int) -> PlanFunction:
    """Plan of a network with several outputs, whose channels are `widths` (finest map first)."""

    def plan(ctx: RowContext, *args: Any) -> LayerSpec:
        ctx.require_once()
        return LayerSpec(args, widths)

    return plan
