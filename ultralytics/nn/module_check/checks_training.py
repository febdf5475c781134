"""Checks of training: backward, precision."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ultralytics.nn.module_check.global_state import random_digests, restored, seed_everything
from ultralytics.nn.module_check.module_under_test import Subject
from ultralytics.nn.module_check.report_module import FAILURES, Fault, NotApplicable, described, one_line
from ultralytics.nn.module_check.source_lines import line_of_attribute, line_of_forward

SHOWN = 4  # names of parameters in a message
DRAWS = 12  # steps of a module that draws random numbers; what it leaves out in one of four shows in 97 of 100 cases


def check_backward(subject: Subject) -> str:
    """The gradient of its output reaches every parameter, in every step, and its input, and is finite.

    A parameter that it does not reach makes distributed training wait for ever, unless `find_unused_parameters` is on.
    """
    layer = subject.build()
    wanted = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    steps = DRAWS if _draws(subject, layer) else 1
    for seed in range(steps):
        layer.zero_grad()
        with restored():
            seed_everything(seed)
            inputs = backward(subject, layer)
        _check_gradients(subject, layer, wanted, inputs, f"in step {seed + 1} of {steps} " if steps > 1 else "")
    if not subject.is_image and all(x.grad is None for x in inputs):
        raise Fault(
            "no gradient reaches its input, so the layers before it do not learn",
            line_of_forward(layer, subject.entry.origin),
        )
    if not wanted:
        raise NotApplicable("it has no parameters; backward runs")
    return f"reaches all {len(wanted)} parameter tensors"


def _draws(subject: Subject, layer: nn.Module) -> bool:
    """Whether its forward draws random numbers in training, which may decide which parameters it uses."""
    with restored():
        before = random_digests()
        subject.run_openly(layer.train(), subject.inputs(2))
        return random_digests() != before


def _check_gradients(
    subject: Subject, layer: nn.Module, wanted: dict[str, nn.Parameter], inputs: list[Tensor], when: str
) -> None:
    unreached = [name for name, p in wanted.items() if p.grad is None]
    if unreached:
        more = f" and {len(unreached) - SHOWN} more" if len(unreached) > SHOWN else ""
        raise Fault(
            f"{when}no gradient reaches {', '.join(unreached[:SHOWN])}{more}; use it in forward or leave it out",
            line_of_attribute(layer, unreached[0], subject.entry.origin),
        )
    gradients = [(name, p.grad) for name, p in wanted.items()] + [("its input", x.grad) for x in inputs]
    for name, gradient in gradients:
        if gradient is not None and not gradient.isfinite().all():
            line = line_of_attribute(layer, name, subject.entry.origin)
            raise Fault(f"the gradient of {name} is not finite", line or line_of_forward(layer, subject.entry.origin))


def backward(subject: Subject, layer: nn.Module) -> list[Tensor]:
    """Run forward and backward in training mode, batch 2. Returns the inputs, which have a gradient."""
    inputs = [x.requires_grad_() for x in subject.inputs(2)]
    generator = torch.Generator().manual_seed(1)
    outputs = subject.run(layer.train(), inputs)
    # Weighted at random: the plain sum of a normalised map has no gradient.
    total = sum((y * torch.randn(y.shape, generator=generator)).sum() for y in outputs)
    if not total.requires_grad:
        raise Fault("its output has no gradient", line_of_forward(layer, subject.entry.origin))
    total.backward()
    return inputs


def check_precision(subject: Subject) -> str:
    """It runs in float16, in bfloat16 and under autocast after it ran in float32, and gives finite values.

    Under autocast it is trained, too.
    """
    done, missing = [], []
    cases: list[tuple[str, torch.dtype, Callable[[], AbstractContextManager]]] = [
        ("float16", torch.float16, nullcontext),
        ("bfloat16", torch.bfloat16, nullcontext),
        ("autocast", torch.float32, lambda: torch.autocast("cpu", torch.bfloat16)),
    ]
    for name, dtype, context in cases:
        reason = _run_in(subject, name, dtype, context)
        (missing if reason else done).append(f"{name}: {reason}" if reason else name)
    if not done:
        raise NotApplicable("; ".join(missing))
    return "; ".join([", ".join(done), *missing])


def _run_in(
    subject: Subject, name: str, dtype: torch.dtype, context: Callable[[], AbstractContextManager]
) -> str | None:
    """Run in one precision. Returns why the CPU cannot do it, None where it can."""
    layer = subject.build().eval()
    subject.evaluate(layer, subject.inputs())  # what it keeps of a float32 run must not disturb the next
    layer = layer.to(dtype)
    inputs = [x.to(dtype) for x in subject.inputs()]
    try:
        with context():
            outputs = subject.evaluate(layer, inputs)
            if name == "autocast":
                outputs += subject.run(layer.train(), subject.inputs(2))
    except FAILURES as error:  # a forward may fail in any way; only what the CPU lacks is none of its fault
        if isinstance(error, RuntimeError) and re.search(r"not implemented for '(Half|BFloat16)'", str(error)):
            return f"the CPU of this torch cannot ({one_line(str(error), 80)})"
        raise Fault(f"{name}: {described(error)}") from error
    line = line_of_forward(layer, subject.entry.origin)
    kinds = {y.dtype for y in outputs}
    if name != "autocast" and kinds != {dtype}:
        raise Fault(f"{name}: its output is {', '.join(str(k) for k in kinds)}", line)
    if not all(y.isfinite().all() for y in outputs):
        raise Fault(f"{name}: the output has values that are not finite", line)
    return None
