"""Checks of channels, strides and sizes: builds, stated, sizes, batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ultralytics.nn.module_check.module_under_test import Subject, difference, shown_shapes, stated_widths, widths
from ultralytics.nn.module_check.report_module import FAILURES, Fault, NotApplicable, described
from ultralytics.nn.module_check.source_lines import line_of_definition, line_of_forward
from ultralytics.nn.parser import output_shapes

TOLERANCE = 1e-4  # relative to the largest value; float32 sums in another order differ by less
STRIDES = (2, 4, 8, 16, 32)  # those that the five numbers of a backbone stand for

# Sides of the coarsest map; an image has 32 times these. They include odd, oblong and small ones.
MAP_SIDES = ((32, 32), (31, 33), (7, 20), (5, 3), (2, 2))
IMAGE_SIDES = ((2, 2), (3, 3), (5, 7), (7, 2))


def check_builds(subject: Subject) -> str:
    """It is constructed and runs once."""
    layer = subject.build()
    parameters = sum(p.numel() for p in layer.parameters())
    return f"{parameters:,} parameters, output {shown_shapes(layer.outputs)}"


def check_stated(subject: Subject) -> str:
    """The channels that its plan states are the real ones, and the maps of a backbone have its strides."""
    layer = subject.build()
    line = line_of_definition(subject.entry.build, subject.entry.origin)
    real, stated = widths(layer), stated_widths(layer)
    if stated is not None and stated != real:
        raise Fault(f"its plan states {_listed(stated)} channels, its forward gives {_listed(real)}", line)
    if not subject.is_image or len(real) == 1:
        if stated is None:
            raise NotApplicable(f"its plan states no channels; measured {_listed(real)}")
        return f"{_listed(real)} channels"
    strides = _strides(layer, line)
    words = "stated" if stated is not None else "measured"
    return f"{_listed(real)} channels ({words}) at strides {_listed(strides)}"


def _strides(layer: nn.Module, line: int | None) -> tuple[int, ...]:
    """Strides of a backbone's maps; they have to be powers of two, the finest map first."""
    side = 8 * max(STRIDES)  # divisible by every stride, and large enough to tell them from others
    shapes = [shape[2:] for shape in output_shapes(layer, [(1, 3, side, side)], False, "")]
    strides = tuple(side // height for height, _ in shapes)
    for stride, sides in zip(strides, shapes, strict=True):
        if stride not in STRIDES or sides != (side // stride,) * 2:
            shown = "x".join(map(str, sides))
            raise Fault(f"a map of {shown} for an image of {side}x{side}; expected a stride of {STRIDES}", line)
    if list(strides) != sorted(strides) or len(strides) > len(STRIDES):
        raise Fault(f"maps at strides {_listed(strides)}; expected at most {len(STRIDES)}, the finest first", line)
    return strides


def check_sizes(subject: Subject) -> str:
    """It runs on inputs of any size, and its outputs grow with them."""
    layer = subject.build().eval()
    bases = IMAGE_SIDES if subject.is_image else MAP_SIDES
    reference: list[tuple[int, ...]] = []  # outputs for the first of the sides, which are even
    for base in bases:
        shown = shown_shapes(subject.shapes(base))
        try:
            found = [tuple(y.shape[1:]) for y in subject.evaluate(layer, subject.inputs(base=base))]
        except FAILURES as error:  # a forward may fail in any way; the size belongs into the message
            raise Fault(f"with {shown}: {described(error)}") from error
        reference = reference or found
        ratios = [side / first for side, first in zip(base, bases[0], strict=True)]
        expected = [
            (c, *(math.ceil(side * r) for side, r in zip(sides, ratios, strict=True))) for c, *sides in reference
        ]
        if len(found) != len(layer.outputs) or not all(map(_is_about, found, expected)):
            raise Fault(
                f"with {shown} it gives {shown_shapes(found)}, expected about {shown_shapes(expected)}",
                line_of_forward(layer, subject.entry.origin),
            )
    return ", ".join("x".join(map(str, subject.shapes(base)[-1][1:])) for base in bases)


def _is_about(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether the channels are the same and the sides differ by one at most."""
    same = len(found) == len(expected) and found[0] == expected[0]
    return same and all(abs(a - b) <= 1 for a, b in zip(found[1:], expected[1:], strict=True))


def check_batches(subject: Subject) -> str:
    """Training and eval mode run with one image and with two, and one image does not depend on the other."""
    layer = subject.build()
    for batch in (2, 1):
        for training in (True, False):
            mode = "training" if training else "eval"
            try:
                outputs = subject.run(layer.train(training), subject.inputs(batch))
            except FAILURES as error:  # a forward may fail in any way; mode and batch belong into the message
                raise Fault(f"{mode} mode, batch {batch}: {described(error)}") from error
            _check_batch(outputs, layer, batch, mode, subject)
    inputs = subject.inputs(2)
    both = subject.evaluate(layer, inputs)
    alone = [subject.evaluate(layer, [x[i : i + 1] for x in inputs]) for i in range(2)]
    gap = difference(both, [torch.cat(images) for images in zip(*alone, strict=True)])
    if gap > TOLERANCE:
        raise Fault(
            f"in eval mode the output for an image changes by {gap:.1e} with the other image of the batch",
            line_of_forward(layer, subject.entry.origin),
        )
    return "training and eval mode, batch 1 and 2"


def _check_batch(outputs: list[Tensor], layer: nn.Module, batch: int, mode: str, subject: Subject) -> None:
    line = line_of_forward(layer, subject.entry.origin)
    shapes = [(batch, *shape) for shape in layer.outputs]
    found = [tuple(y.shape) for y in outputs]
    if found != shapes:
        raise Fault(f"{mode} mode, batch {batch}: gives {found}, expected {shapes}", line)
    if not all(y.isfinite().all() for y in outputs):
        raise Fault(f"{mode} mode, batch {batch}: the output has values that are not finite", line)


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
