"""Checks of copies: copies (deepcopy, pickle, EMA), weights (save and load), fold, determinism."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.module_check.checks_training import backward
from ultralytics.nn.module_check.global_state import restored, seed_everything
from ultralytics.nn.module_check.module_under_test import Subject, difference
from ultralytics.nn.module_check.report_module import FAILURES, Fault, NotApplicable, described
from ultralytics.nn.module_check.source_lines import line_of_attribute, line_of_definition, line_of_forward
from ultralytics.utils.torch_utils import ModelEMA

SAME = 1e-6  # relative; a copy computes the same numbers, up to the order of sums
FOLD_BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-4}  # relative


def check_copies(subject: Subject) -> str:
    """After backward `deepcopy`, `pickle` and the moving average of the weights work, and compute the same."""
    layer = subject.build()
    backward(subject, layer)
    duplicates: dict[str, Callable[[Any], Any]] = {
        "deepcopy": copy.deepcopy,
        "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    }
    twins = {name: _duplicated(subject, layer, name, duplicate) for name, duplicate in duplicates.items()}
    averaged = any(value.is_floating_point() for value in layer.state_dict().values())
    if averaged:
        _check_average(subject, twins["deepcopy"])
        twins["deepcopy"] = copy.deepcopy(layer)
    for name, twin in twins.items():
        _compare(subject, name, twin, layer)
    return ", ".join([*twins, "moving average"] if averaged else twins)


def _check_average(subject: Subject, layer: nn.Module) -> None:
    """The average follows the weights, also when it ran before they changed, as in the validation of an epoch."""
    average = ModelEMA(layer, decay=0.0)  # no memory: it takes the present weights over
    subject.evaluate(average.ema, subject.inputs())
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.1)
    if not average.update():
        raise Fault("its weights or statistics are not finite after one step, so they cannot be averaged")
    _compare(subject, "moving average, after the weights changed", average.ema, layer)


def _duplicated(subject: Subject, layer: nn.Module, name: str, duplicate: Callable[[Any], Any]) -> nn.Module:
    try:
        return duplicate(layer)
    except FAILURES as error:  # whatever an attribute refuses with
        refusing = _refusing(layer, duplicate)
        whose = f"attribute {refusing}: " if refusing else ""
        line = line_of_attribute(layer, refusing, subject.entry.origin) if refusing else None
        raise Fault(f"{name}: {whose}{described(error)}", line) from error


def _compare(subject: Subject, name: str, twin: nn.Module, layer: nn.Module) -> None:
    gap = difference(*(subject.evaluate(each, subject.inputs()) for each in (twin, layer)))
    if gap > SAME:
        line = line_of_forward(layer, subject.entry.origin)
        raise Fault(f"{name}: the copy's output differs by {gap:.1e} of the largest value", line)
    own = {value.data_ptr() for value in layer.state_dict().values() if value.numel()}
    shared = [key for key, value in twin.state_dict().items() if value.numel() and value.data_ptr() in own]
    if shared:
        line = line_of_attribute(layer, shared[0], subject.entry.origin)
        raise Fault(f"{name}: the copy shares {shared[0]} with the original", line)


def _refusing(layer: nn.Module, duplicate: Callable[[Any], Any]) -> str | None:
    """Path of the attribute that cannot be copied on its own."""
    for path, module in layer.named_modules():
        for name, value in vars(module).items():
            if name in vars(nn.Module()):
                continue  # parameters, submodules and torch's own
            try:
                duplicate(value)
            except FAILURES:  # this is the search for it
                return f"{path}.{name}" if path else name
    return None


def check_weights(subject: Subject) -> str:
    """Its `state_dict` holds all that training changes: loaded into a new build it gives the same output."""
    layer = subject.build(seed=0)
    subject.run(layer.train(), subject.inputs(2))  # statistics move
    expected = subject.evaluate(layer, subject.inputs())
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    twin = subject.build(seed=1)
    new = [name for name in layer.state_dict() if name not in twin.state_dict()]
    if new:
        line = line_of_attribute(layer, new[0], subject.entry.origin)
        raise Fault(f"{new[0]} is there only after a run, so it cannot be loaded; make it in the constructor", line)
    twin.load_state_dict(torch.load(file, weights_only=True))
    gap = difference(subject.evaluate(twin, subject.inputs()), expected)
    if gap > SAME:
        hidden = _unsaved(layer, twin)
        line = line_of_attribute(layer, hidden, subject.entry.origin) if hidden else None
        hint = f"; {hidden} is not saved: make it a buffer or a parameter" if hidden else ""
        raise Fault(f"loaded into a new build its output differs by {gap:.1e} of the largest value{hint}", line)
    return f"{len(layer.state_dict())} tensors, the same output after loading"


def _unsaved(layer: nn.Module, twin: nn.Module) -> str | None:
    """Path of a tensor or number that is no part of the `state_dict`, and not the same in the twin."""
    others = dict(twin.named_modules())
    for path, module in layer.named_modules():
        plain = {name: value for name, value in vars(module).items() if name not in vars(nn.Module())}
        for name, value in {**plain, **{n: module._buffers[n] for n in module._non_persistent_buffers_set}}.items():
            other = getattr(others.get(path), name, None)
            if isinstance(value, Tensor):
                same = isinstance(other, Tensor) and value.shape == other.shape and torch.equal(value, other)
            else:
                same = not isinstance(value, int | float) or value == other
            if not same:
                return f"{path}.{name}" if path else name
    return None


@torch.no_grad()
def check_fold(subject: Subject) -> str:
    """Folding its normalisation, as `DetectionModel.fuse` does before inference, leaves the output as it is."""
    layer = subject.build().eval()
    folding = [m for m in layer.modules() if inspect.isroutine(getattr(type(m), "fold", None))]
    if not folding:
        raise NotApplicable("neither it nor a part of it has `fold()`")
    _randomise(layer)
    dtype = torch.float64  # in which an inexact formula cannot hide behind rounding
    inputs = [x.to(dtype) for x in subject.inputs()]
    try:
        expected = subject.evaluate(layer.to(dtype), inputs)
    except RuntimeError:  # a module that makes float32 tensors itself
        dtype = torch.float32
        inputs = [x.to(dtype) for x in inputs]
        expected = subject.evaluate(layer.to(dtype), inputs)
    for module in folding:
        module.fold()
    found = subject.evaluate(layer, inputs)
    gap, bound = difference(found, expected), FOLD_BOUNDS[dtype]
    if gap > bound:
        lines = [line_of_definition(type(module).fold, subject.entry.origin) for module in folding]
        raise Fault(
            f"folding changes the output by {gap:.1e} of the largest value; expected at most {bound:.0e}",
            next((line for line in lines if line is not None), None),
        )
    return f"changes the output by {gap:.1e} of the largest value, {len(folding)} modules folded"


def _randomise(layer: nn.Module) -> None:
    """Give weights that start at 0 or 1, and statistics, values that no formula can overlook; norms the models' eps."""
    generator = torch.Generator().manual_seed(0)
    for parameter in (p for p in layer.parameters() if p.requires_grad):
        parameter.add_(torch.empty_like(parameter).uniform_(-0.1, 0.1, generator=generator))
    for norm in (m for m in layer.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.eps = 1e-3
        for tensor, low, high in (
            (norm.running_mean, -0.5, 0.5),
            (norm.running_var, 0.3, 1.5),
            (norm.weight, 0.5, 1.5),
            (norm.bias, -0.5, 0.5),
        ):
            if tensor is not None:
                tensor.uniform_(low, high, generator=generator)


def check_determinism(subject: Subject) -> str:
    """The same seed gives the same weights, and in eval mode the same input gives the same output."""
    layer, twin = subject.build(seed=0), subject.build(seed=0)
    others = twin.state_dict()
    changed = [name for name, value in layer.state_dict().items() if not torch.equal(value, others[name])]
    if changed:
        line = line_of_attribute(layer, changed[0], subject.entry.origin)
        raise Fault(f"two builds from one seed differ in {changed[0]}", line)
    first, second = (_evaluate_with_seed(subject, layer, seed) for seed in (0, 1))
    gap = difference(second, first)
    if gap > SAME:
        line = line_of_forward(layer, subject.entry.origin)
        raise Fault(f"in eval mode a second run on the same input differs by {gap:.1e} of the largest value", line)
    return "same seed, same weights; same input, same output"


@torch.no_grad()
def _evaluate_with_seed(subject: Subject, layer: nn.Module, seed: int) -> list[Tensor]:
    """Its outputs in eval mode while random numbers would come from a seed."""
    with restored():
        seed_everything(seed)
        return [y.clone() for y in subject.run_openly(layer.eval(), subject.inputs())]
