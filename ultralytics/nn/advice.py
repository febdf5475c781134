"""What to change in a row whose layer does not run on its inputs."""

from __future__ import annotations

from torch import nn

from ultralytics.nn.measure import output_shapes
from ultralytics.nn.registry import Context, Plan
from ultralytics.utils.errors import ModelConfigError


def advice(layer: nn.Module, plan: Plan, ctx: Context, where: str) -> str:
    """The likely remedy for a layer that failed on these inputs, starting with `; `, or '' where none is known.

    What can be tried is tried: the remedy that a list is wanted, or is not, is only given where it works.
    """
    shapes = [(1, c, *size) for c, size in zip(ctx.inputs, ctx.sizes, strict=True)]
    if not ctx.listed and _runs(layer, shapes, True, where):
        return "; it takes a list of maps: write the numbers in brackets, [[a, b], 1, ...]"
    if ctx.listed and _runs(layer, shapes[:1], False, where):
        several = "to join several, put Concat before it" if len(shapes) > 1 else "without brackets"
        return f"; it takes one map, not a list: write one number for `from`; {several}"
    if len(set(ctx.sizes)) > 1:
        sizes = " and ".join(dict.fromkeys(f"{h}x{w}" for h, w in ctx.sizes))
        return f"; its inputs have different sizes, {sizes}: bring them to one with nn.Upsample or a stride of 2"
    if isinstance(plan.out, tuple) and ctx.c1 != 3:
        return f"; it is a backbone, which reads the image (3 channels): make it the first row; here it gets {ctx.c1}"
    if plan.copies > 1 and _runs(layer[0], shapes, ctx.listed, where):
        return (
            f"; {plan.copies} copies stand in sequence, each built for {ctx.c1} input channels: make its output "
            f"channels {ctx.c1}, or write 1 in the second column"
        )
    if len(set(ctx.inputs)) > 1:
        return f"; its inputs have {' and '.join(map(str, ctx.inputs))} channels: it may want equal ones"
    return ""


def _runs(layer: nn.Module, shapes: list[tuple[int, ...]], listed: bool, where: str) -> bool:
    try:
        output_shapes(layer, shapes, listed, where)
    except ModelConfigError:
        return False
    return True
