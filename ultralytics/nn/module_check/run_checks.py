"""All checks of a module, one after the other: `check_module` for Python, `command` for the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ultralytics.cfg.options import Range
from ultralytics.nn.module_check import (
    checks_copies,
    checks_export,
    checks_shapes,
    checks_side_effects,
    checks_training,
)
from ultralytics.nn.module_check.global_state import listening, restored
from ultralytics.nn.module_check.module_under_test import Subject, find_subject
from ultralytics.nn.module_check.report_module import (
    FAILURES,
    Fault,
    NotApplicable,
    Report,
    Result,
    described,
    one_line,
)
from ultralytics.nn.module_check.source_lines import line_of_definition, line_of_error
from ultralytics.utils.errors import UserError, did_you_mean
from ultralytics.utils.files import parse_yaml


@dataclass(frozen=True)
class Check:
    """A check and those without which it would say nothing.

    Attributes:
        run: returns what it found, or raises Fault or NotApplicable; anything else it raises is the module's fault.
        needs: checks that must not have failed.
    """

    name: str
    run: Callable[[Subject], str]
    needs: tuple[str, ...] = ("builds",)


REPEATS = ("builds", "determinism")  # for checks that compare outputs

CHECKS = (
    Check("builds", checks_shapes.check_builds, ()),
    Check("stated", checks_shapes.check_stated),
    Check("determinism", checks_copies.check_determinism),
    Check("sizes", checks_shapes.check_sizes),
    Check("batches", checks_shapes.check_batches, REPEATS),
    Check("backward", checks_training.check_backward, ("builds", "batches")),
    Check("precision", checks_training.check_precision),
    Check("copies", checks_copies.check_copies, (*REPEATS, "batches")),
    Check("weights", checks_copies.check_weights, (*REPEATS, "batches")),
    Check("fold", checks_copies.check_fold, REPEATS),
    Check("torchscript", checks_export.check_torchscript, REPEATS),
    Check("onnx", checks_export.check_onnx, REPEATS),
    Check("printing", checks_side_effects.check_printing, ()),
    Check("globals", checks_side_effects.check_globals, ()),
    Check("seeding", checks_side_effects.check_seeding, ()),
    Check("inputs", checks_side_effects.check_inputs, ("builds", "batches")),
    Check("statistics", checks_side_effects.check_statistics),
)


def check_module(
    name: str,
    args: Sequence[Any] | None = None,
    channels: int = 64,
    size: int = 32,
    inputs: Sequence[tuple[int, int, int]] | None = None,
    modules: Sequence[str | Path] = (),
    skip: Collection[str] = (),
) -> Report:
    """Run all checks of a module.

    Args:
        name: module, as a row of a model YAML names it.
        args: the row's arguments; None for none, or for `[channels]` where the plan asks for output channels.
        channels: of each map it reads. A backbone is found out and gets an image.
        size: sides of the maps; those of an image are at least 64.
        inputs: (C, H, W) of each input, where the module needs particular ones.
        modules: further folders with module files.
        skip: names of checks to leave out.

    Raises:
        UserError: there is no module, or no check, of that name.
    """
    names = [check.name for check in CHECKS]
    for word in skip:
        if word not in names:
            raise UserError(f"no check {word!r}{did_you_mean(word, names)}; there are {', '.join(names)}")
    # What it prints is told by the check `printing`, not between the lines of the table.
    with restored(), listening(""):
        with restored():  # of what its import changes, which `globals` could not see a second time
            subject, error = find_subject(name, args, channels, size, inputs, [str(folder) for folder in modules])
        results: dict[str, Result] = {}
        for check in CHECKS:
            if check.name not in skip:
                results[check.name] = _run(check, subject, error, results)
    return Report(name, _short(subject.entry.origin), subject.setup(), tuple(results.values()))


def _run(check: Check, subject: Subject, error: BaseException | None, earlier: dict[str, Result]) -> Result:
    """Run one check. The one place that answers for whatever a user's module raises."""
    for need in check.needs:
        if need in earlier and earlier[need].status == "broken":
            return Result(check.name, "skipped", f"not asked, since the check {need!r} failed")
    try:
        if error is not None and check.name == "builds":
            raise error
        return Result(check.name, "kept", check.run(subject))
    except NotApplicable as reason:
        return Result(check.name, "skipped", str(reason))
    except FAILURES as found:
        if isinstance(found, UserError):  # its message is made to be read
            reason = one_line(str(found), 300)
        else:
            reason = one_line(str(found) if isinstance(found, Fault) else described(found))
        origin = subject.entry.origin
        line = (found.line if isinstance(found, Fault) else None) or line_of_error(found, origin)
        line = line or line_of_definition(subject.entry.build, origin)
        return Result(check.name, "broken", reason, f"{_short(origin)}:{line}" if line else "")


def _short(origin: str) -> str:
    """A file relative to the working folder where it lies below it, else its name and folder."""
    path = Path(origin)
    if not path.is_absolute():
        return origin
    relative = os.path.relpath(path) if path.anchor == Path.cwd().anchor else str(path)
    return str(path) if relative.startswith("..") else relative


def command(
    module: str,
    args: str | None = None,
    channels: Annotated[int, Range(1)] = 64,
    size: Annotated[int, Range(1)] = 32,
    modules: str | None = None,
) -> None:
    """`yolo contract`: print the table of a module's checks; UserError, so exit code 2, where one fails.

    Args:
        module: name, as a row of a model YAML has it.
        args: the row's arguments as it writes them, such as `[64, 3, 2]`.
        channels: of each map it reads.
        size: sides of the maps, in pixels.
        modules: a folder with module files, beside those that are always searched.
    """
    report = check_module(module, _parse_args(args), channels, size, modules=[modules] if modules else [])
    print(report.table())
    report.raise_if_broken()


def _parse_args(text: str | None) -> list[Any] | None:
    """The list that a text such as `[64, 3, 2]` stands for."""
    if text is None:
        return None
    value = parse_yaml(text, "args")
    if not isinstance(value, list):
        raise UserError(f"args: expected a list as in a row of a model YAML, such as args=[64,3,2]; got {text!r}")
    return value
