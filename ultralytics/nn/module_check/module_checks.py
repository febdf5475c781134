"""The checks of `yolo check`. Each returns what it found, or raises CheckFailed or NotApplicable."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import io
import math
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.nn.accelerate.conv_bn import fuse_layer
from ultralytics.nn.module_check.module_under_test import FAILURES, ModuleUnderTest, format_shapes
from ultralytics.utils.flops import output_shapes

EXACT = 1e-6  # relative difference of the same computation, up to the order of sums
ROUNDING = 1e-4  # relative difference of an equivalent computation in float32
STRIDES = (2, 4, 8, 16, 32)  # of a backbone's maps
OPSET = 17  # grid sampling and layer normalization; supported by all current runtimes
ONNX_PACKAGES = ("onnx", "onnxruntime")

# Sides of the coarsest map; those of an image are 32 times as large. Square, odd, oblong and small ones.
MAP_SIDES = ((32, 32), (31, 33), (7, 20), (5, 3), (2, 2))
IMAGE_SIDES = ((2, 2), (3, 3), (5, 7), (7, 2))


class CheckFailed(Exception):
    """The module fails a check; the message is the reason."""


class NotApplicable(Exception):
    """The check does not apply to this module, or cannot run on this machine; the message is the reason."""


def check_builds(module: ModuleUnderTest) -> str:
    """Build the module and run it once; the channels that its plan states must be those of its outputs."""
    layer = module.build()
    return f"{sum(p.numel() for p in layer.parameters()):,} parameters, output {format_shapes(layer.outputs)}"


def check_shapes(module: ModuleUnderTest) -> str:
    """Check that a backbone has maps at strides 2 to 32, the finest first."""
    layer = module.build()
    channels = ", ".join(str(shape[0]) for shape in layer.outputs)
    if not module.is_image or len(layer.outputs) == 1:
        return f"{channels} channels"
    side = 8 * max(STRIDES)
    strides = []
    for _, _, height, width in output_shapes(layer, [(1, 3, side, side)], False, module.entry.name):
        stride = side // height
        if stride not in STRIDES or (height, width) != (side // stride,) * 2:
            raise CheckFailed(f"map {height}x{width} of an image {side}x{side}; expected a stride of {STRIDES}")
        strides.append(stride)
    if strides != sorted(strides):
        raise CheckFailed(f"strides {strides}; expected the finest map first")
    return f"{channels} channels at strides {', '.join(map(str, strides))}"


def check_sizes(module: ModuleUnderTest) -> str:
    """Check that it accepts any input size, and that its outputs grow with the inputs."""
    layer = module.build()
    bases = IMAGE_SIDES if module.is_image else MAP_SIDES
    reference: list[tuple[int, ...]] = []  # output shapes for the first size
    for base in bases:
        size = format_shapes(module.shapes(base))
        outputs = _run(lambda base=base: module.evaluate(layer, module.inputs(base=base)), f"with {size}")
        found = [tuple(y.shape[1:]) for y in outputs]
        reference = reference or found
        ratios = [side / first for side, first in zip(base, bases[0], strict=True)]
        expected = [(c, *(math.ceil(s * r) for s, r in zip(hw, ratios, strict=True))) for c, *hw in reference]
        if len(found) != len(expected) or not all(map(_is_close, found, expected)):
            raise CheckFailed(f"with {size} it returns {format_shapes(found)}, expected {format_shapes(expected)}")
    return ", ".join("x".join(map(str, module.shapes(base)[-1][1:])) for base in bases)


def _is_close(found: Sequence[int], expected: Sequence[int]) -> bool:
    """Return True if the channels are equal and the sides differ by one at most."""
    same = len(found) == len(expected) and found[0] == expected[0]
    return same and all(abs(a - b) <= 1 for a, b in zip(found[1:], expected[1:], strict=True))


@torch.no_grad()
def check_inference(module: ModuleUnderTest) -> str:
    """Check eval mode: repeatable, each image independent of the others in its batch, inputs not overwritten."""
    layer = module.build().eval()
    inputs = module.inputs(2)
    torch.manual_seed(0)
    both = [y.clone() for y in _run(lambda: module.run(layer, inputs), "eval mode, batch 2")]
    changed = [i for i, (x, y) in enumerate(zip(inputs, module.inputs(2), strict=True)) if not torch.equal(x, y)]
    if changed:
        raise CheckFailed(f"forward overwrites its input {changed[0]}, which other layers may read")
    torch.manual_seed(1)
    if (gap := difference(module.evaluate(layer, inputs), both)) > EXACT:
        raise CheckFailed(f"a second run on the same input differs by {gap:.1e} (relative); is dropout active?")
    alone = [module.evaluate(layer, [x[i : i + 1] for x in inputs]) for i in range(2)]
    if (gap := difference(both, [torch.cat(images) for images in zip(*alone, strict=True)])) > ROUNDING:
        raise CheckFailed(f"the output for an image differs by {gap:.1e} (relative) with the other image of the batch")
    return "repeatable, images independent, inputs unchanged"


def check_backward(module: ModuleUnderTest) -> str:
    """Check that finite gradients reach every parameter and the input in training mode, with one and two images.

    DDP waits for a parameter without a gradient, unless `find_unused_parameters` is on.
    """
    layer = module.build().train()
    parameters = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    for batch in (1, 2):
        layer.zero_grad()
        inputs = _run(lambda batch=batch: backward(module, layer, batch), f"training mode, batch {batch}")
    if unreached := [name for name, p in parameters.items() if p.grad is None]:
        more = f" and {len(unreached) - 3} more" if len(unreached) > 3 else ""
        raise CheckFailed(f"no gradient reaches {', '.join(unreached[:3])}{more}; use it in forward, or delete it")
    for name, tensor in [*parameters.items(), *(("its input", x) for x in inputs)]:
        if tensor.grad is not None and not tensor.grad.isfinite().all():
            raise CheckFailed(f"the gradient of {name} is not finite")
    if not module.is_image and all(x.grad is None for x in inputs):
        raise CheckFailed("no gradient reaches its input, so the layers before it do not learn")
    return f"gradients reach {len(parameters)} parameters"


def backward(module: ModuleUnderTest, layer: nn.Module, batch: int = 2) -> list[Tensor]:
    """Run forward and backward, and return the inputs with their gradients."""
    inputs = [x.requires_grad_() for x in module.inputs(batch)]
    outputs = module.run(layer, [x * 1 for x in inputs])  # not a leaf, like a map in a network
    if not all(y.isfinite().all() for y in outputs):
        raise CheckFailed("the output is not finite")
    # random weights: the plain sum of a normalized map has no gradient
    total = sum((y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).sum() for y in outputs)
    if not total.requires_grad:
        raise CheckFailed("its output has no gradient")
    total.backward()
    return inputs


def check_precision(module: ModuleUnderTest) -> str:
    """Check float16, bfloat16 and autocast after a float32 run; autocast in training mode as well."""
    cases: list[tuple[str, torch.dtype, Callable[[], AbstractContextManager]]] = [
        ("float16", torch.float16, nullcontext),
        ("bfloat16", torch.bfloat16, nullcontext),
        ("autocast", torch.float32, lambda: torch.autocast("cpu", torch.bfloat16)),
    ]
    notes = []
    for name, dtype, context in cases:
        layer = module.build()
        module.evaluate(layer, module.inputs())  # tensors cached in float32 must not break the next run
        inputs = [x.to(dtype) for x in module.inputs()]
        try:
            with context():
                outputs = module.evaluate(layer.to(dtype), inputs)
                if name == "autocast":
                    outputs += module.run(layer.train(), module.inputs(2))
        except FAILURES as error:
            if isinstance(error, RuntimeError) and re.search(r"not implemented for '(Half|BFloat16)'", str(error)):
                notes.append(f"{name}: not supported by torch on this CPU")
                continue
            raise CheckFailed(f"{name}: {describe(error)}") from error
        if name != "autocast" and {y.dtype for y in outputs} != {dtype}:
            raise CheckFailed(f"{name}: its output is {', '.join(str(y.dtype) for y in outputs)}")
        if not all(y.isfinite().all() for y in outputs):
            raise CheckFailed(f"{name}: the output is not finite")
        notes.append(name)
    return ", ".join(notes)


def check_copies(module: ModuleUnderTest) -> str:
    """Check that `deepcopy` works after a training step, as for EMA, and that the copy gives the same output."""
    layer = module.build().train()
    backward(module, layer)
    try:
        twin = copy.deepcopy(layer)
    except FAILURES as error:
        raise CheckFailed(f"deepcopy: {describe(error)}; does it keep a tensor of its forward as attribute?") from error
    if (gap := difference(*(module.evaluate(each, module.inputs()) for each in (twin, layer)))) > EXACT:
        raise CheckFailed(f"the output of the copy differs by {gap:.1e} (relative)")
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
    if (gap := difference(module.evaluate(twin, module.inputs()), expected)) > EXACT:
        raise CheckFailed(
            f"the output after loading differs by {gap:.1e} (relative); make all it needs parameters or buffers, and "
            "do not cache tensors computed from them"
        )
    return f"{len(layer.state_dict())} tensors, the same output after loading"


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
    inputs = module.inputs()
    fuse_layer(layer, (inputs,) if len(inputs) > 1 and not layer.unpack_inputs else tuple(inputs))
    if (gap := difference(module.evaluate(layer, module.inputs()), expected)) > ROUNDING:
        raise CheckFailed(f"fold() changes the output by {gap:.1e} (relative); expected at most {ROUNDING:.0e}")
    return f"output changes by {gap:.1e} (relative)"


class _Flat(nn.Module):
    """A layer with one argument per map and a tuple of outputs, as the exporter requires."""

    def __init__(self, module: ModuleUnderTest, layer: nn.Module) -> None:
        super().__init__()
        self.module, self.layer = module, layer

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module.run(self.layer, list(maps)))


def check_onnx(module: ModuleUnderTest) -> str:
    """Export to ONNX, and compare onnxruntime with PyTorch on another input than the traced one."""
    if missing := [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]:
        raise NotApplicable(f"{' and '.join(missing)} not installed: pip install {' '.join(missing)}")
    import onnxruntime

    layer = _Flat(module, module.build()).eval()
    other = module.inputs(seed=1)
    names = [f"x{i}" for i in range(len(other))]
    # the tracing exporter: the newer one needs another package
    tracing = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = str(Path(folder) / "module.onnx")
        torch.onnx.export(layer, tuple(module.inputs()), file, input_names=names, opset_version=OPSET, **tracing)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        used = {node.name for node in session.get_inputs()}  # unused inputs are dropped
        feed = {name: x.numpy() for name, x in zip(names, other, strict=True) if name in used}
        found = [torch.from_numpy(y) for y in session.run(None, feed)]
    if (gap := difference(found, module.evaluate(layer.layer, other))) > ROUNDING:
        raise CheckFailed(f"onnxruntime differs by {gap:.1e} (relative); does forward branch on values or sizes?")
    return f"opset {OPSET}, differs by {gap:.1e} (relative)"


def _run(action: Callable[[], list[Tensor]], where: str) -> list[Tensor]:
    """Return the result of an action; CheckFailed with `where` in front if a module fails."""
    try:
        return action()
    except FAILURES as error:
        reason = str(error) if isinstance(error, CheckFailed) else describe(error)
        raise CheckFailed(f"{where}: {reason}") from error


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference relative to the largest expected value; inf for other shapes or nan."""
    if [t.shape for t in found] != [t.shape for t in expected]:
        return math.inf
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        gap = ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-12)).item()
        worst = max(worst, math.inf if math.isnan(gap) else gap)
    return worst


def describe(error: BaseException) -> str:
    """Return type and message of an error in one line of at most 200 characters."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text if len(text) <= 200 else text[:197] + '...'}"
