"""The shapes of YAML rows that most modules share. Each function's parameters after `ctx` are the row's arguments."""

from __future__ import annotations

from typing import Any

from ultralytics.nn.registry import Context, Plan, PlanFunction


def conv(ctx: Context, c2: int, *args: Any) -> Plan:
    """`[c2, k, s, ...]` for a constructor (c1, c2, k, s, ...); repeats stand in sequence."""
    c2 = ctx.scaled(c2)
    return Plan((ctx.c1, c2, *args), c2, copies=ctx.repeats)


def csp(ctx: Context, c2: int, *args: Any) -> Plan:
    """`[c2, ...]` for a constructor (c1, c2, n, ...) that repeats its inner block itself."""
    c2 = ctx.scaled(c2)
    return Plan((ctx.c1, c2, ctx.repeats, *args), c2)


def channel_preserving(ctx: Context, *args: Any) -> Plan:
    """`[...]` for a constructor (channels, ...) whose output has the input's channels, such as attention."""
    return Plan((ctx.c1, *args), ctx.c1, copies=ctx.repeats)


def concat(ctx: Context, dim: int = 1) -> Plan:
    """`[dim]`: all inputs, one after the other along the channels."""
    ctx.require_once()
    return Plan((dim,), sum(ctx.inputs))


def backbone(*widths: int) -> PlanFunction:
    """Plan of a network with several outputs, whose channels are `widths` (finest map first)."""

    def plan(ctx: Context, *args: Any) -> Plan:
        ctx.require_once()
        return Plan(args, widths)

    return plan
