"""The module under test: how it is built anew, which inputs it reads, and how it is run."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.module_check.global_state import restored, seed_everything
from ultralytics.nn.module_check.report_module import FAILURES
from ultralytics.nn.module_check.source_lines import line_of_error
from ultralytics.nn.parser import build_module, call, find_entry, output_shapes, takes_each_map, tensors
from ultralytics.nn.plans import RowContext
from ultralytics.nn.registry import RegisteredModule, module_folders
from ultralytics.utils.errors import ModelConfigError, UserError

IMAGE_STEP = 32  # pixels; the package gives a model images whose sides are multiples of it
SMALLEST_IMAGE = 64  # pixels


@dataclass(frozen=True)
class Subject:
    """A module with its arguments and inputs.

    Attributes:
        entry: the constructor and where it was defined.
        args: the row's arguments.
        folders: further folders with module files.
        maps: channels of each input, and its sides as a multiple of those of the coarsest.
        base: sides of the coarsest input.
        misstated: whether its plan states other channels than its forward gives, which would not let it be built.
    """

    entry: RegisteredModule
    args: tuple[Any, ...]
    folders: tuple[str, ...]
    maps: tuple[tuple[int, int], ...]
    base: tuple[int, int]
    misstated: bool = False

    @property
    def is_image(self) -> bool:
        """Whether it reads an image rather than maps."""
        return self.maps == ((3, IMAGE_STEP),)

    @property
    def takes_list(self) -> bool:
        """Whether it gets a list of maps."""
        return len(self.maps) > 1

    def shapes(self, base: tuple[int, int] | None = None) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of each input where the coarsest has these sides."""
        height, width = base or self.base
        return tuple((c, height * factor, width * factor) for c, factor in self.maps)

    def setup(self) -> str:
        """Arguments and inputs in words."""
        return f"args {list(self.args)}, {'image' if self.is_image else 'input'} {shown_shapes(self.shapes())}"

    def build(self, seed: int = 0) -> nn.Module:
        """A new layer whose random weights start at a seed; nothing outside it changes."""
        with restored():
            seed_everything(seed)
            return self.build_openly()

    def build_openly(self) -> nn.Module:
        """A new layer; what its constructor does to the process stays done."""
        if self.misstated:
            return self._build_misstated()
        return build_module(self.entry.name, self.args, self.shapes(), takes_list=self.takes_list, modules=self.folders)

    def _build_misstated(self) -> nn.Module:
        """The layer as its plan has it, with the true shapes in `outputs` and the plan's channels in `stated`."""
        context = RowContext(
            tuple(c for c, _ in self.maps), sizes=tuple(s[1:] for s in self.shapes()), takes_list=self.takes_list
        )
        plan = self.entry.plan(context, *self.args)
        copies = [self.entry.build(*plan.args, **plan.kwargs) for _ in range(plan.copies)]
        layer = copies[0] if len(copies) == 1 else nn.Sequential(*copies)
        found = output_shapes(layer, [(1, *s) for s in self.shapes()], self.takes_list, self.entry.name)
        layer.outputs, layer.stated = [shape[1:] for shape in found], plan.out
        layer.unpack_inputs = takes_each_map(layer, len(self.maps), self.takes_list)
        return layer

    def inputs(self, batch: int = 1, base: tuple[int, int] | None = None, seed: int = 0) -> list[Tensor]:
        """Random inputs (B, C, H, W): an image has values in 0..1, maps are normally distributed."""
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand if self.is_image else torch.randn
        return [draw((batch, *shape), generator=generator) for shape in self.shapes(base)]

    def run(self, layer: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Its outputs; nothing outside it changes, nor do the inputs. The gradient mode is the caller's."""
        with restored():
            return self.run_openly(layer, [x.clone() for x in inputs])

    def run_openly(self, layer: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Its outputs; what its forward does to the process stays done."""
        return tensors(call(layer, inputs, self.takes_list))

    def evaluate(self, layer: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Its outputs in eval mode, without gradients."""
        with torch.no_grad():
            return self.run(layer.eval(), inputs)


def find_subject(
    name: str,
    args: Sequence[Any] | None = None,
    channels: int = 64,
    size: int = 32,
    inputs: Sequence[tuple[int, int, int]] | None = None,
    modules: Sequence[str] = (),
) -> tuple[Subject, BaseException | None]:
    """The module with inputs that suit it; where it cannot be built on any, those on which it came furthest, and why.

    Raises:
        UserError: there is no module of that name, or the arguments or inputs are impossible.
    """
    folders = tuple(str(folder) for folder in modules)
    entry = find_entry(name, folders=module_folders(folders))
    chosen = tuple(_default_args(entry, channels) if args is None else args)
    tried: list[tuple[Subject, BaseException | None, float]] = []  # with the line that it came to
    for maps, base in [_stated_inputs(inputs)] if inputs else _usual_inputs(channels, size):
        subject = Subject(entry, chosen, folders, maps, base)
        subject, error, outputs = _try(subject)
        # An error about what the forward returns comes after its last line.
        ended = error is None or (isinstance(error, ModelConfigError) and " returns " in str(error))
        reached = float("inf") if ended else line_of_error(error, entry.origin) or 0
        if error is None and not all(len(shape) == 3 for shape in outputs):
            error = ModelConfigError(f"{name}: its outputs are {outputs}; expected maps (C, H, W)")
        elif error is None and (inputs or (len(outputs) > 1) == subject.is_image):
            return subject, None
        elif error is None and subject.is_image:
            continue  # one map from an image is no backbone: it runs on few channels by chance
        tried.append((subject, error, reached))  # without an error: several maps from one, no backbone, but it runs
    subject, error, _ = max(tried, key=lambda each: (each[1] is None, each[2]))  # the first of equals
    return subject, error


def _try(subject: Subject) -> tuple[Subject, BaseException | None, list[tuple[int, ...]]]:
    """The subject, marked as misstated where only that is wrong; its error; the shapes of its outputs."""
    try:
        return subject, None, subject.build().outputs
    except FAILURES as error:
        if not isinstance(error, ModelConfigError) or subject.entry.plan is None:
            return subject, error, []
        lenient = replace(subject, misstated=True)
        try:
            layer = lenient.build()
        except FAILURES:  # the first error tells more: it names the constructor and the inputs
            return subject, error, []
        return (subject, error, []) if stated_widths(layer) == widths(layer) else (lenient, None, layer.outputs)


def widths(layer: nn.Module) -> tuple[int, ...]:
    """Channels of each map that the layer gives."""
    return tuple(shape[0] for shape in layer.outputs)


def stated_widths(layer: nn.Module) -> tuple[int, ...] | None:
    """Channels of each map that its plan states; None where it states none."""
    return (layer.stated,) if isinstance(layer.stated, int) else layer.stated


def _usual_inputs(channels: int, size: int) -> list[tuple[tuple[tuple[int, int], ...], tuple[int, int]]]:
    """Inputs to try in turn: one map; an image; two or three maps as a fusion module of a pyramid reads them."""
    units = max(SMALLEST_IMAGE // IMAGE_STEP, -(-size // IMAGE_STEP))
    c, quarter = channels, max(size // 4, 1)
    return [
        (((c, 1),), (size, size)),
        (((3, IMAGE_STEP),), (units, units)),
        (((c, 1), (c, 1)), (size, size)),
        (((c, 4), (c, 2), (c, 1)), (quarter, quarter)),
        (((c, 2), (c, 1)), (max(size // 2, 1),) * 2),
        (((c, 1), (c, 1), (c, 1)), (size, size)),
    ]


def _stated_inputs(inputs: Sequence[tuple[int, int, int]]) -> tuple[tuple[tuple[int, int], ...], tuple[int, int]]:
    """Inputs given as (C, H, W), as multiples of the coarsest."""
    coarsest = min(((h, w) for _, h, w in inputs), key=lambda sides: sides[0] * sides[1])
    if len(inputs) == 1 and inputs[0][0] == 3 and all(side % IMAGE_STEP == 0 for side in coarsest):
        coarsest = tuple(side // IMAGE_STEP for side in coarsest)
    maps = []
    for c, height, width in inputs:
        factor = height // coarsest[0]
        if (factor * coarsest[0], factor * coarsest[1]) != (height, width):
            raise UserError(
                f"inputs {list(inputs)}: the sides of each map must be one multiple of those of the coarsest"
            )
        maps.append((c, factor))
    return tuple(maps), coarsest


def _default_args(entry: RegisteredModule, channels: int) -> tuple[Any, ...]:
    """For a row that has to say its output channels, those of the input; else nothing."""
    if entry.plan is None:
        return ()
    row = list(inspect.signature(entry.plan).parameters.values())[1:]
    return (channels,) if row and row[0].name == "c2" and row[0].default is row[0].empty else ()


def shown_shapes(shapes: Sequence[Sequence[int]]) -> str:
    """`64x32x32, 64x16x16` for shapes."""
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference of two lists of maps, relative to the largest expected value; inf where shapes differ."""
    if [t.shape for t in found] != [t.shape for t in expected]:
        return float("inf")
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        gap = (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
        scale = b.double().abs().max().item() if b.numel() else 0.0
        worst = max(worst, float("inf") if gap != gap else gap / max(scale, 1e-12))  # nan: not a number differs
    return worst
