"""Checks of what importing, building and running a module must leave alone: printing, globals, seeding, inputs,
statistics.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.module_check.global_state import (
    hooks,
    listening,
    random_digests,
    restored,
    seed_everything,
    set_switches,
    switches,
    turned,
)
from ultralytics.nn.module_check.module_under_test import Subject
from ultralytics.nn.module_check.report_module import FAILURES, Fault, NotApplicable, one_line
from ultralytics.nn.module_check.source_lines import line_of_caller, line_of_change, line_of_forward, trace_lines
from ultralytics.nn.registry import REGISTRY

SEEDS = (1234, 987654321)  # two that nobody writes into a file


def phases(subject: Subject) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Importing, building and running the module, each as an action that can be repeated."""
    if Path(subject.entry.origin).is_file():
        file, name = subject.entry.origin, subject.entry.build.__module__
        yield "importing its file", lambda: _attempt(import_again, file, name)
    yield "building it, which runs it once,", lambda: _attempt(subject.build_openly)

    layer = _attempt(subject.build)
    if layer is not None:
        yield "a training step", lambda: _attempt(_step, subject, layer)
        yield "an eval forward", lambda: _attempt(subject.run_openly, layer.eval(), subject.inputs(2))


def _step(subject: Subject, layer: nn.Module) -> None:
    outputs = subject.run_openly(layer.train(), [x.requires_grad_() for x in subject.inputs(2)])
    sum(y.sum() for y in outputs).backward()


def _attempt(action: Callable[..., Any], *args: Any) -> Any:
    """What the action returns; None where it fails.

    The checks `builds`, `batches` and `backward` report that; an import may fail only because it is the second, as of a
    file that defines an operator.
    """
    try:
        return action(*args)
    except FAILURES:
        return None


def import_again(file: str, name: str) -> None:
    """Run a module file a second time beside the first. What it registers then is not kept."""
    package = name.rpartition(".")[0]
    probe = f"{package}.contract_probe" if package else "contract_probe"
    spec = importlib.util.spec_from_file_location(probe, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[probe] = module
    try:
        with REGISTRY.collect():
            spec.loader.exec_module(module)
    finally:
        del sys.modules[probe]


def check_printing(subject: Subject) -> str:
    """Nothing is printed: a line for each step of the training would bury its progress."""
    for phase, action in phases(subject):
        with restored(), listening(subject.entry.origin) as heard:
            action()
        if heard.text:
            raise Fault(f"{phase} prints {one_line(heard.text, 60)!r}", heard.line)
    return "prints nothing"


def check_globals(subject: Subject) -> str:
    """Torch's switches, environment and global hooks stay as they are: they hold for every other layer, too."""
    for phase, action in phases(subject):
        for start in (switches(), turned(switches())):
            _check_phase(subject, phase, action, start)
    return "switches, environment and global hooks unchanged"


def _check_phase(subject: Subject, phase: str, action: Callable[[], Any], start: dict[str, Any]) -> None:
    with restored():
        set_switches(start)
        before, hooks_before = switches(), hooks()
        action()
        after, hooks_after = switches(), hooks()
    changed = [name for name in before | after if after.get(name) != before.get(name)]
    if changed:
        line = _line_of(action, subject, lambda: [switches().get(name) for name in changed], start)
        shown = ", ".join(f"{n} from {before.get(n, 'unset')} to {after.get(n, 'unset')}" for n in changed)
        raise Fault(f"{phase} changes {shown}", line)
    if hooks_after != hooks_before:
        line = _line_of(action, subject, hooks, start)
        raise Fault(f"{phase} leaves a hook that runs for every module of the process", line)


def _line_of(
    action: Callable[[], Any], subject: Subject, observe: Callable[[], Any], start: dict[str, Any]
) -> int | None:
    """The line after which an observation stays changed, from one more run of the action."""
    with restored():
        set_switches(start)
        return line_of_change(trace_lines(action, subject.entry.origin, observe))


def check_seeding(subject: Subject) -> str:
    """Random numbers are drawn, not restarted: a seed set in a module undoes the one of the run."""
    generators = ("torch", "NumPy", "Python")
    for phase, action in phases(subject):
        ends = [_from_seed(seed, action) for seed in SEEDS]
        same = [name for name, a, b in zip(generators, *ends, strict=True) if a == b]
        if same:
            raise Fault(
                f"{phase} sets the seed of {' and '.join(same)}", _line_of_seeding(action, subject.entry.origin)
            )
    return "sets no seed"


def _from_seed(seed: int, action: Callable[[], Any]) -> tuple[str, ...]:
    with restored():
        seed_everything(seed)
        action()
        return random_digests()


def _line_of_seeding(action: Callable[[], Any], file: str) -> int | None:
    """The line after which two runs from different seeds have the same state."""
    runs = []
    for seed in SEEDS:
        with restored():
            seed_everything(seed)
            runs.append(trace_lines(action, file, random_digests))
    met = [(line, any(x == y for x, y in zip(a, b, strict=True))) for (line, a), (_, b) in zip(*runs, strict=False)]
    return next((line for (line, _), (_, same) in pairwise(met) if same), None)


def check_inputs(subject: Subject) -> str:
    """Its forward does not write into its inputs, which other layers may still read."""
    layer = subject.build()
    for training in (True, False):
        inputs = subject.inputs(2)
        before = [x.clone() for x in inputs]
        _run_in_mode(subject, layer, training, inputs)
        changed = [i for i, (x, y) in enumerate(zip(inputs, before, strict=True)) if not torch.equal(x, y)]
        if changed:
            again = subject.inputs(2)
            seen = trace_lines(
                lambda t=training, x=again: _run_in_mode(subject, layer, t, x),
                subject.entry.origin,
                lambda x=again[changed[0]]: x._version,  # counts what is written into a tensor
            )
            line = line_of_change(seen) or line_of_forward(layer, subject.entry.origin)
            raise Fault(f"its forward writes into its input{f' {changed[0]}' if subject.takes_list else ''}", line)
    return "left unchanged"


@torch.no_grad()
def _run_in_mode(subject: Subject, layer: nn.Module, training: bool, inputs: list[Tensor]) -> None:
    with restored():
        subject.run_openly(layer.train(training), inputs)


def check_statistics(subject: Subject) -> str:
    """Its constructor runs no batch normalisation in training mode, which would move the statistics it starts from."""
    layer = subject.build()
    norms = {name: m for name, m in layer.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    moved = [name for name, m in norms.items() if m.num_batches_tracked is not None and m.num_batches_tracked > 0]
    if moved:
        raise Fault(f"its constructor runs it and moves the statistics of {moved[0]}", _line_of_probe(subject))
    if not norms:
        raise NotApplicable("it has no batch normalisation")
    return f"its constructor leaves those of {len(norms)} batch normalisations alone"


def _line_of_probe(subject: Subject) -> int | None:
    """Line of the constructor that runs a batch normalisation."""
    lines: list[int | None] = []

    def note(module: nn.Module, _: Any) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            lines.append(line_of_caller(subject.entry.origin, function="__init__"))

    with restored():
        handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
        subject.build_openly()
        handle.remove()
    return next((line for line in lines if line is not None), None)
