"""The module that `yolo check` tests: how it is built and run, and a search for inputs that suit it."""

from __future__ import annotations

import inspect
import math
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.parser import build_module
from ultralytics.nn.registry import RegisteredModule, module_folders, resolve_module
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.flops import flatten_tensors

FAILURES = (Exception, SystemExit)  # what a user's module may raise; KeyboardInterrupt is not included
IMAGE = ((3, 32),)  # `maps` of an image, whose sides are multiples of 32 pixels

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
    maps: tuple[tuple[int, int], ...]
    base: Sides

    @property
    def is_image(self) -> bool:
        """Return True if the input is an image rather than feature maps."""
        return self.maps == IMAGE

    def shapes(self, base: Sides | None = None) -> list[tuple[int, int, int]]:
        """Return (C, H, W) of each input; `base` is (H, W) of the coarsest."""
        height, width = base or self.base
        return [(c, height * factor, width * factor) for c, factor in self.maps]

    def build(self, seed: int = 0) -> nn.Module:
        """Build a new layer with the random weights of a seed; `outputs` has (C, H, W) of each output."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_module(self.entry.name, self.args, self.shapes(), modules=self.folders)

    def inputs(self, batch: int = 1, base: Sides | None = None, seed: int = 0) -> list[Tensor]:
        """Draw inputs (B, C, H, W): images are uniform in 0..1, feature maps are normally distributed."""
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand if self.is_image else torch.randn
        return [draw((batch, *shape), generator=generator) for shape in self.shapes(base)]

    def arguments(self, layer: nn.Module, inputs: Sequence[Tensor]) -> tuple[Any, ...]:
        """Return the arguments of a forward pass: each map, or the list of the maps."""
        return (list(inputs),) if len(inputs) > 1 and not layer.unpack_inputs else tuple(inputs)

    def run(self, layer: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs of a forward pass, nested lists flattened."""
        return flatten_tensors(layer(*self.arguments(layer, inputs)))

    @torch.no_grad()
    def evaluate(self, layer: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs in eval mode, without gradients. The inputs are copied first."""
        return self.run(layer.eval(), [x.clone() for x in inputs])

    def __str__(self) -> str:
        return f"args {list(self.args)}, {'image' if self.is_image else 'input'} {format_shapes(self.shapes())}"


def find_module(
    name: str, args: Sequence[Any] | None, channels: int, size: int, folders: Sequence[str]
) -> tuple[ModuleUnderTest, BaseException | None]:
    """Find a module and inputs on which it can be built: one map, an image, or two or three maps.

    If none works, return the attempt whose forward got furthest, and its error. Raise UserError for an unknown name.
    """
    entry = resolve_module(name, folders=module_folders(folders))
    if args is None:  # the output channels if its plan requires them
        row = list(inspect.signature(entry.plan).parameters.values())[1:2] if entry.plan else []
        args = [channels for parameter in row if parameter.name == "c2" and parameter.default is parameter.empty]
    c = channels
    candidates = [
        (IMAGE, max(2, math.ceil(size / 32))),
        (((c, 1),), size),
        (((c, 1), (c, 1)), size),
        (((c, 4), (c, 2), (c, 1)), max(size // 4, 1)),
        (((c, 2), (c, 1)), max(size // 2, 1)),
        (((c, 1), (c, 1), (c, 1)), size),
    ]
    tried: list[tuple[float, ModuleUnderTest, BaseException]] = []  # with the line that raised
    for maps, side in candidates:
        module = ModuleUnderTest(entry, tuple(args), tuple(folders), maps, (side, side))
        try:
            outputs = module.build().outputs
            if any(len(shape) != 3 for shape in outputs):
                raise ModelConfigError(f"{name}: its forward gives {outputs}; expected maps (C, H, W)")
        except FAILURES as error:
            finished = isinstance(error, ModelConfigError) and re.search("forward (gives|returns)", str(error))
            tried.append((math.inf if finished else line_of_error(error, entry.origin) or 0, module, error))
        else:
            if not module.is_image or len(outputs) > 1:  # a backbone gives several maps
                return module, None
    _, module, error = max(tried, key=lambda attempt: (attempt[0], not attempt[1].is_image))  # the first of equals
    return module, error


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
