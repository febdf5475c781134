"""The module that `yolo check` tests: how it is built and run, and a search for inputs that suit it."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.parser import build_module
from ultralytics.nn.registry import RegisteredModule, module_folders, resolve_module
from ultralytics.utils.errors import ModelConfigError, UserError
from ultralytics.utils.flops import flatten_tensors, run_layer

FAILURES = (Exception, SystemExit)  # what a user's module may raise; KeyboardInterrupt is not included
IMAGE_STEP = 32  # pixels; models get images whose sides are multiples of it
SMALLEST_IMAGE = 64  # pixels

Maps = tuple[tuple[int, int], ...]  # (channels, side as a multiple of the coarsest map's) of each input
Sides = tuple[int, int]


@dataclass(frozen=True)
class ModuleUnderTest:
    """A registered module with arguments and inputs.

    Attributes:
        entry: constructor and file.
        args: arguments of the YAML row.
        folders: further folders with module files.
        maps: channels of each input, and its sides as a multiple of the coarsest input's.
        base: (H, W) of the coarsest input.
    """

    entry: RegisteredModule
    args: tuple[Any, ...]
    folders: tuple[str, ...]
    maps: Maps
    base: Sides

    @property
    def is_image(self) -> bool:
        """Return True if the input is an image rather than feature maps."""
        return self.maps == ((3, IMAGE_STEP),)

    def shapes(self, base: Sides | None = None) -> list[tuple[int, int, int]]:
        """Return (C, H, W) of each input; `base` is (H, W) of the coarsest."""
        height, width = base or self.base
        return [(c, height * factor, width * factor) for c, factor in self.maps]

    def build(self, seed: int = 0) -> nn.Module:
        """Build a new layer with the random weights of a seed; `outputs` has (C, H, W) of each output."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_module(
                self.entry.name, self.args, self.shapes(), takes_list=len(self.maps) > 1, modules=self.folders
            )

    def inputs(self, batch: int = 1, base: Sides | None = None, seed: int = 0) -> list[Tensor]:
        """Draw inputs (B, C, H, W): images are uniform in 0..1, feature maps are normally distributed."""
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand if self.is_image else torch.randn
        return [draw((batch, *shape), generator=generator) for shape in self.shapes(base)]

    def run(self, layer: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs of a forward pass, nested lists flattened."""
        return flatten_tensors(run_layer(layer, inputs, len(self.maps) > 1))

    @torch.no_grad()
    def evaluate(self, layer: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs in eval mode, without gradients. The inputs are copied first."""
        return self.run(layer.eval(), [x.clone() for x in inputs])

    def __str__(self) -> str:
        return f"args {list(self.args)}, {'image' if self.is_image else 'input'} {format_shapes(self.shapes())}"


def find_module(
    name: str,
    args: Sequence[Any] | None = None,
    channels: int = 64,
    size: int = 32,
    inputs: Sequence[tuple[int, int, int]] | None = None,
    modules: Sequence[str] = (),
) -> tuple[ModuleUnderTest, BaseException | None]:
    """Find a module and inputs on which it can be built: one map, an image, or two or three maps.

    If none works, return the attempt whose forward got furthest, and its error.

    Raises:
        UserError: no module has that name, or the inputs are not multiples of the coarsest.
    """
    entry = resolve_module(name, folders=module_folders(modules))
    chosen = tuple(_default_args(entry, channels) if args is None else args)
    tried: list[tuple[ModuleUnderTest, BaseException | None, float]] = []  # with the line that raised
    for maps, base in [_parse_inputs(inputs)] if inputs else _candidate_inputs(channels, size):
        module = ModuleUnderTest(entry, chosen, tuple(modules), maps, base)
        try:
            outputs = module.build().outputs
        except FAILURES as error:
            text = str(error)  # of errors about the outputs, after the last line of forward
            at_end = isinstance(error, ModelConfigError) and (" returns " in text or "forward gives" in text)
            line = float("inf") if at_end else line_of_error(error, entry.origin) or 0
            tried.append((module, error, line))
            continue
        if not all(len(shape) == 3 for shape in outputs):
            error = ModelConfigError(f"{name}: its outputs are {outputs}; expected maps (C, H, W)")
            tried.append((module, error, float("inf")))
        elif inputs or (len(outputs) > 1) == module.is_image:  # a backbone gives several maps
            return module, None
        elif not module.is_image:  # several maps from one input: a backbone would be better, but this works
            tried.append((module, None, float("inf")))
    module, error, _ = max(tried, key=lambda attempt: (attempt[1] is None, attempt[2]))  # the first of equals
    return module, error


def _default_args(entry: RegisteredModule, channels: int) -> tuple[int, ...]:
    """Return `(channels,)` if the plan of the module requires output channels, else nothing."""
    row = list(inspect.signature(entry.plan).parameters.values())[1:] if entry.plan else []
    return (channels,) if row and row[0].name == "c2" and row[0].default is row[0].empty else ()


def _candidate_inputs(channels: int, size: int) -> list[tuple[Maps, Sides]]:
    """List the inputs to try in order: one map, an image, two or three maps as fusion modules read them."""
    units = max(SMALLEST_IMAGE // IMAGE_STEP, -(-size // IMAGE_STEP))
    c, half, quarter = channels, max(size // 2, 1), max(size // 4, 1)
    return [
        (((c, 1),), (size, size)),
        (((3, IMAGE_STEP),), (units, units)),
        (((c, 1), (c, 1)), (size, size)),
        (((c, 4), (c, 2), (c, 1)), (quarter, quarter)),
        (((c, 2), (c, 1)), (half, half)),
        (((c, 1), (c, 1), (c, 1)), (size, size)),
    ]


def _parse_inputs(inputs: Sequence[tuple[int, int, int]]) -> tuple[Maps, Sides]:
    """Convert inputs (C, H, W) to multiples of the coarsest map."""
    height, width = min(((h, w) for _, h, w in inputs), key=lambda sides: sides[0] * sides[1])
    if len(inputs) == 1 and inputs[0][0] == 3 and height % IMAGE_STEP == width % IMAGE_STEP == 0:
        height, width = height // IMAGE_STEP, width // IMAGE_STEP
    if any((h // height * height, h // height * width) != (h, w) for _, h, w in inputs):
        raise UserError(f"inputs: expected sides that are one multiple of the coarsest map's, got {list(inputs)}")
    return tuple((c, h // height) for c, h, _ in inputs), (height, width)


def line_of_error(error: BaseException | None, file: str) -> int | None:
    """Return the line in `file` where an error was raised, or the first of its causes that passed through the file."""
    while error is not None:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        if lines:
            return lines[-1]
        error = error.__cause__ or error.__context__
    return None


def format_shapes(shapes: Sequence[Sequence[int]]) -> str:
    """Format shapes as `64x32x32, 64x16x16`."""
    return ", ".join("x".join(map(str, shape)) for shape in shapes)
