"""The checks of `yolo check`. Each returns what it found, or raises CheckFailed or NotApplicable."""

import copy
import importlib.util
import inspect
import io
import math
import re
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.nn.accelerate.conv_bn import fuse_layer
from ultralytics.nn.formats.onnx import OPSET, trace_onnx
from ultralytics.nn.parser import build_module
from ultralytics.nn.registry import RegisteredModule, module_folders, resolve_module
from ultralytics.utils.errors import ModelConfigError, counted
from ultralytics.utils.flops import flatten_tensors

FAILURES = (Exception, SystemExit)  # what a user's module may raise; KeyboardInterrupt is not included
IMAGE = ((3, 32),)  # `maps` of an image, whose sides are multiples of 32 pixels

Sides = tuple[int, int]


@dataclass(frozen=True)
class ModuleUnderTest:
    """A registered module with arguments and inputs."""

    entry: RegisteredModule  # constructor and file
    args: tuple[Any, ...]  # of the YAML row
    folders: tuple[str, ...]  # further folders with module files
    maps: tuple[tuple[int, int], ...]  # channels of each input, and its sides as a multiple of the coarsest input's
    base: Sides  # (H, W) of the coarsest input

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
            with warnings.catch_warnings():  # of layers without channels, for an image
                warnings.filterwarnings("ignore", "Initializing zero-element tensors")
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


EXACT = 1e-6  # relative difference of the same computation, up to the order of sums
ROUNDING = 1e-4  # relative difference of an equivalent computation in float32
STRIDES = (2, 4, 8, 16, 32)  # of a backbone's maps

# Sides of the coarsest map; those of an image are 32 times as large. Square, odd, oblong and small ones.
MAP_SIDES = ((32, 32), (31, 33), (7, 20), (5, 3), (2, 2))
IMAGE_SIDES = ((2, 2), (3, 3), (5, 7), (7, 2))


class CheckFailed(Exception):
    """The module fails a check; the message is the reason."""


class NotApplicable(Exception):
    """The check does not apply to this module, or cannot run on this machine; the message is the reason."""


@contextmanager
def within(where: str) -> Iterator[None]:
    """Turn whatever the module raises within the block into CheckFailed with `where` in front."""
    try:
        yield
    except FAILURES as error:
        raise CheckFailed(f"{where}: {error if isinstance(error, CheckFailed) else describe(error)}") from error


def describe(error: BaseException) -> str:
    """Return type and message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def require_close(found: Sequence[Tensor], expected: Sequence[Tensor], limit: float, what: str) -> float:
    """Return the largest difference relative to the largest expected value; CheckFailed if it exceeds `limit`."""
    gap = 0.0 if [t.shape for t in found] == [t.shape for t in expected] else math.inf
    for a, b in zip(found, expected, strict=False):
        if gap < math.inf:
            gap = max(gap, ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-12)).item())
    if not gap <= limit:  # also nan
        raise CheckFailed(what.format(f"{gap:.1e} (relative)"))
    return gap


def check_builds(module: ModuleUnderTest) -> str:
    """Build the module and run it once; the channels that its plan states must be those of its outputs."""
    layer = module.build()
    return f"{sum(p.numel() for p in layer.parameters()):,} parameters, output {format_shapes(layer.outputs)}"


def check_shapes(module: ModuleUnderTest) -> str:
    """Check that a backbone has maps at strides 2 to 32, the finest first."""
    layer = module.build()
    channels = ", ".join(str(shape[0]) for shape in layer.outputs)
    if not module.is_image or len(layer.outputs) == 1:
        return counted(channels, "channel")
    sides = [tuple(y.shape[2:]) for y in module.evaluate(layer, module.inputs(base=(8, 8)))]
    strides = [256 // height for height, _ in sides]
    for stride, map_sides in zip(strides, sides, strict=True):
        if stride not in STRIDES or map_sides != (256 // stride,) * 2:
            raise CheckFailed(f"map {format_shapes([map_sides])} of an image 256x256; expected a stride of {STRIDES}")
    if strides != sorted(strides):
        raise CheckFailed(f"strides {strides}; expected the finest map first")
    return f"{counted(channels, 'channel')} at strides {', '.join(map(str, strides))}"


def check_sizes(module: ModuleUnderTest) -> str:
    """Check that it accepts any input size, and that its outputs grow with the inputs, up to one pixel."""
    layer = module.build()
    bases = IMAGE_SIDES if module.is_image else MAP_SIDES
    reference: list[tuple[int, ...]] = []  # output shapes for the first size
    for base in bases:
        size = format_shapes(module.shapes(base))
        with within(f"with {size}"):
            found = [tuple(y.shape[1:]) for y in module.evaluate(layer, module.inputs(base=base))]
        reference = reference or found
        scale = (1, base[0] / bases[0][0], base[1] / bases[0][1])
        expected = [tuple(math.ceil(n * s) for n, s in zip(shape, scale, strict=True)) for shape in reference]
        if len(found) != len(expected) or np.any(np.abs(np.subtract(found, expected)) > (0, 1, 1)):
            raise CheckFailed(f"with {size} it returns {format_shapes(found)}, expected {format_shapes(expected)}")
    return ", ".join(format_shapes([module.shapes(base)[-1][1:]]) for base in bases)


@torch.no_grad()
def check_inference(module: ModuleUnderTest) -> str:
    """Check eval mode: repeatable, each image independent of the others in its batch, inputs not overwritten."""
    layer = module.build().eval()
    inputs = module.inputs(2)
    torch.manual_seed(0)
    with within("eval mode, batch 2"):
        both = [y.clone() for y in module.run(layer, inputs)]
    for i, (x, y) in enumerate(zip(inputs, module.inputs(2), strict=True)):
        if not torch.equal(x, y):
            raise CheckFailed(f"forward overwrites its input {i}, which other layers may read")
    torch.manual_seed(1)
    again = module.evaluate(layer, inputs)
    require_close(again, both, EXACT, "a second run on the same input differs by {}; is dropout active?")
    alone = [module.evaluate(layer, [x[i : i + 1] for x in inputs]) for i in range(2)]
    alone = [torch.cat(images) for images in zip(*alone, strict=True)]
    require_close(both, alone, ROUNDING, "the output for an image differs by {} with the other image of the batch")
    return "repeatable, images independent, inputs unchanged"


def check_backward(module: ModuleUnderTest) -> str:
    """Check that finite gradients reach every parameter and the input in training mode, with one and two images.

    DDP waits for a parameter without a gradient, unless `find_unused_parameters` is on.
    """
    layer = module.build().train()
    parameters = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    for batch in (1, 2):
        layer.zero_grad()
        with within(f"training mode, batch {batch}"):
            inputs = backward(module, layer, batch)
    if unreached := [name for name, p in parameters.items() if p.grad is None]:
        raise CheckFailed(f"no gradient reaches {', '.join(unreached[:3])}; use it in forward, or delete it")
    for name, tensor in [*parameters.items(), *(("its input", x) for x in inputs)]:
        if tensor.grad is not None and not tensor.grad.isfinite().all():
            raise CheckFailed(f"the gradient of {name} is not finite")
    if not module.is_image and all(x.grad is None for x in inputs):
        raise CheckFailed("no gradient reaches its input, so the layers before it do not learn")
    return f"gradients reach {counted(len(parameters), 'parameter')}"


def backward(module: ModuleUnderTest, layer: nn.Module, batch: int = 2) -> list[Tensor]:
    """Run forward and backward, and return the inputs with their gradients."""
    inputs = [x.requires_grad_() for x in module.inputs(batch)]
    outputs = module.run(layer, [x * 1 for x in inputs])  # not a leaf, like a map in a network
    require_finite(outputs)
    # random weights: the plain sum of a normalized map has no gradient
    generator = torch.Generator().manual_seed(1)
    sum((y * torch.randn(y.shape, generator=generator)).sum() for y in outputs).backward()
    return inputs


def require_finite(outputs: Sequence[Tensor]) -> None:
    if not all(y.isfinite().all() for y in outputs):
        raise CheckFailed("the output is not finite")


def check_precision(module: ModuleUnderTest) -> str:
    """Check float16, bfloat16 and autocast after a float32 run; autocast in training mode as well."""
    for dtype in (torch.float16, torch.bfloat16):
        layer = module.build()
        module.evaluate(layer, module.inputs())  # tensors cached in float32 must not break the next run
        with within(str(dtype).removeprefix("torch.")):
            outputs = module.evaluate(layer.to(dtype), [x.to(dtype) for x in module.inputs()])
            require_finite(outputs)
            if {y.dtype for y in outputs} != {dtype}:
                raise CheckFailed(f"its output is {', '.join(str(y.dtype) for y in outputs)}")
    layer = module.build()
    with within("autocast"), torch.autocast("cpu", torch.bfloat16):
        require_finite(module.evaluate(layer, module.inputs()) + module.run(layer.train(), module.inputs(2)))
    return "float16, bfloat16, autocast"


def check_copies(module: ModuleUnderTest) -> str:
    """Check that `deepcopy` works after a training step, as for EMA, and that the copy gives the same output."""
    layer = module.build().train()
    backward(module, layer)
    with within("deepcopy (does it keep a tensor of its forward as attribute?)"):
        twin = copy.deepcopy(layer)
    found, expected = (module.evaluate(each, module.inputs()) for each in (twin, layer))
    require_close(found, expected, EXACT, "the output of the copy differs by {}")
    return "deepcopy gives the same output"


def check_weights(module: ModuleUnderTest) -> str:
    """Check that `state_dict` is complete: saved and loaded into a new layer it gives the same output."""
    layer = module.build(seed=0)
    module.run(layer.train(), module.inputs(2))  # moves running statistics
    expected = module.evaluate(layer, module.inputs())
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    twin = module.build(seed=1)
    if new := [name for name in layer.state_dict() if name not in twin.state_dict()]:
        raise CheckFailed(f"{new[0]} exists only after a run, so it cannot be loaded; create it in the constructor")
    module.evaluate(twin, module.inputs())  # whatever it caches must follow the loaded weights
    twin.load_state_dict(torch.load(file, weights_only=True))
    remedy = "make all it needs parameters or buffers, and do not cache tensors computed from them"
    found = module.evaluate(twin, module.inputs())
    require_close(found, expected, EXACT, f"the output after loading differs by {{}}; {remedy}")
    return f"{counted(len(layer.state_dict()), 'tensor')}, the same output after loading"


@torch.no_grad()
def check_fold(module: ModuleUnderTest) -> str:
    """Check that fusing, which calls `fold()` and folds batch norms before inference, keeps the output."""
    layer = module.build().eval()
    if not any(isinstance(m, _BatchNorm) or inspect.isroutine(getattr(type(m), "fold", None)) for m in layer.modules()):
        raise NotApplicable("it has no batch norm and no fold()")
    # make every term of the formula count: weights and statistics away from 0 and 1, a large eps
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.add_(torch.empty_like(parameter).uniform_(-0.1, 0.1, generator=generator))
    for norm in (m for m in layer.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None):
        norm.eps = 1e-3
        norm.running_mean.uniform_(-0.5, 0.5, generator=generator)
        norm.running_var.uniform_(0.3, 1.5, generator=generator)
    expected = module.evaluate(layer, module.inputs())
    fuse_layer(layer, module.arguments(layer, module.inputs()))
    gap = require_close(module.evaluate(layer, module.inputs()), expected, ROUNDING, "fold() changes the output by {}")
    return f"output changes by {gap:.1e} (relative)"


def check_onnx(module: ModuleUnderTest) -> str:
    """Export to ONNX, and compare onnxruntime with PyTorch on another input than the traced one."""
    if missing := [package for package in ("onnx", "onnxruntime") if importlib.util.find_spec(package) is None]:
        raise NotApplicable(f"{' and '.join(missing)} not installed: pip install {' '.join(missing)}")
    import onnxruntime

    layer, other = module.build().eval(), module.inputs(seed=1)
    names, traced = [f"x{i}" for i in range(len(other))], module.arguments(layer, module.inputs())
    content = trace_onnx(layer, traced, input_names=names, opset_version=OPSET)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    used = {node.name for node in session.get_inputs()}  # unused inputs are dropped
    feed = {name: x.numpy() for name, x in zip(names, other, strict=True) if name in used}
    found = [torch.from_numpy(y) for y in session.run(None, feed)]
    remark = "onnxruntime differs by {}; does forward branch on values or sizes?"
    gap = require_close(found, module.evaluate(layer, other), ROUNDING, remark)
    return f"opset {OPSET}, differs by {gap:.1e} (relative)"


CHECKS = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_builds, check_shapes, check_sizes, check_inference, check_backward, check_precision, check_copies,
        check_weights, check_fold, check_onnx,
    )
}  # fmt: skip
