"""Run all checks of a module: `check_module` in Python, `yolo check` on the command line."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from ultralytics.cfg.values import Range
from ultralytics.nn.module_check import module_checks
from ultralytics.nn.module_check.module_checks import CheckFailed, NotApplicable, describe
from ultralytics.nn.module_check.module_under_test import FAILURES, ModuleUnderTest, find_module, line_of_error
from ultralytics.utils.errors import UserError, did_you_mean
from ultralytics.utils.files import parse_yaml

# A check is skipped if `builds` failed, those that compare outputs also if `inference` did.
CHECKS: dict[str, Callable[[ModuleUnderTest], str]] = {
    "builds": module_checks.check_builds,
    "shapes": module_checks.check_shapes,
    "sizes": module_checks.check_sizes,
    "inference": module_checks.check_inference,
    "backward": module_checks.check_backward,
    "precision": module_checks.check_precision,
    "copies": module_checks.check_copies,
    "weights": module_checks.check_weights,
    "fold": module_checks.check_fold,
    "onnx": module_checks.check_onnx,
}
COMPARES = ("copies", "weights", "fold", "onnx")
MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "-"}


@dataclass(frozen=True)
class Result:
    """Outcome of one check.

    Attributes:
        check: name of the check.
        status: passed, failed or skipped.
        reason: one line.
        place: `FILE:LINE` to look at if it failed, or "".
    """

    check: str
    status: Literal["passed", "failed", "skipped"]
    reason: str
    place: str = ""

    @property
    def suffix(self) -> str:
        """Place in parentheses, if known."""
        return f" ({self.place})" if self.place else ""


@dataclass(frozen=True)
class Report:
    """Outcome of all checks of a module.

    Attributes:
        module: name of the module.
        origin: file that defines it.
        setup: arguments and inputs.
        results: one for each check, in the order of CHECKS.
    """

    module: str
    origin: str
    setup: str
    results: tuple[Result, ...]

    def __getitem__(self, check: str) -> Result:
        return {result.check: result for result in self.results}[check]

    @property
    def failed(self) -> tuple[Result, ...]:
        """Results of the failed checks."""
        return tuple(result for result in self.results if result.status == "failed")

    def table(self) -> str:
        """Return one line for each check."""
        rows = [f"{MARKS[r.status]:<6}  {r.check:<9}  {r.reason}{r.suffix}" for r in self.results]
        return "\n".join([f"{self.module} ({self.origin}), {self.setup}", *rows])

    def raise_if_failed(self) -> None:
        """Raise UserError with the failed checks, if there are any."""
        if self.failed:
            reasons = "; ".join(f"{r.check}: {r.reason}{r.suffix}" for r in self.failed)
            raise UserError(f"{self.module}: {len(self.failed)} of {len(self.results)} checks failed: {reasons}")


def check_module(
    name: str,
    args: Sequence[Any] | None = None,
    channels: int = 64,
    size: int = 32,
    inputs: Sequence[tuple[int, int, int]] | None = None,
    modules: Sequence[str | Path] = (),
    skip: Collection[str] = (),
) -> Report:
    """Run all checks of a module on the CPU.

    Args:
        name: module, as in a row of a model YAML.
        args: arguments of the row; by default none, or `[channels]` if the plan requires output channels.
        channels: of each input map. Backbones are detected and get an image.
        size: sides of the input maps in pixels; those of an image are at least 64.
        inputs: (C, H, W) of each input, for a module that requires particular ones.
        modules: further folders with module files.
        skip: names of checks to leave out.

    Raises:
        UserError: no module, or no check, has that name.

    Examples:
        >>> from ultralytics.nn.module_check import check_module
        >>> report = check_module("Conv", args=[16, 3, 2], channels=8, skip=["onnx"])
        >>> report.failed
        ()
        >>> report["builds"].reason
        '1,184 parameters, output 16x16x16'
    """
    for word in skip:
        if word not in CHECKS:
            raise UserError(f"skip: no check {word!r}{did_you_mean(word, CHECKS)}; checks: {', '.join(CHECKS)}")
    results: dict[str, Result] = {}
    with torch.random.fork_rng(devices=[]):
        module, error = find_module(name, args, channels, size, inputs, [str(folder) for folder in modules])
        for check in CHECKS:
            if check not in skip:
                results[check] = _run_check(check, module, error, results)
    return Report(name, _relative(module.entry.origin), str(module), tuple(results.values()))


def _run_check(check: str, module: ModuleUnderTest, error: BaseException | None, earlier: dict[str, Result]) -> Result:
    """Run one check; `error` is that of building the module. Whatever a user's module raises is a failed check."""
    for needed in ("builds", "inference") if check in COMPARES else ("builds",):
        if needed in earlier and earlier[needed].status == "failed":
            return Result(check, "skipped", f"needs {needed}, which failed")
    try:
        if error is not None:
            raise error
        return Result(check, "passed", CHECKS[check](module))
    except NotApplicable as reason:
        return Result(check, "skipped", str(reason))
    except FAILURES as failure:
        reason = " ".join(str(failure).split()) if isinstance(failure, CheckFailed | UserError) else describe(failure)
        origin = module.entry.origin
        line = line_of_error(failure, origin) or _line_of_definition(module.entry.build, origin)
        return Result(check, "failed", reason, f"{_relative(origin)}:{line}" if line else "")


def _line_of_definition(build: Callable[..., Any], file: str) -> int | None:
    """Return the line where a class or function of the file begins; None if it has no source file."""
    try:
        return inspect.getsourcelines(build)[1] if inspect.getsourcefile(build) == file else None
    except (OSError, TypeError):
        return None


def _relative(origin: str) -> str:
    """Return a path relative to the working folder if the file is below it."""
    path = Path(origin)
    return os.path.relpath(path) if path.is_absolute() and path.is_relative_to(Path.cwd()) else origin


def command(
    module: str,
    args: str | None = None,
    channels: Annotated[int, Range(1)] = 64,
    size: Annotated[int, Range(1)] = 32,
    modules: str | None = None,
) -> None:
    """Print the table of a module's checks; exit with code 2 if one fails.

    Args:
        module: name, as in a row of a model YAML.
        args: arguments of the row as written there, such as `[64, 3, 2]`.
        channels: of each input map.
        size: sides of the input maps in pixels.
        modules: a folder with module files.

    Raises:
        UserError: a check failed.
    """
    values = None if args is None else parse_yaml(args, "args")
    if args is not None and not isinstance(values, list):
        raise UserError(f"args: expected a list as in a row of a model YAML, such as args=[64,3,2]; got {args!r}")
    report = check_module(module, values, channels, size, modules=[modules] if modules else [])
    print(report.table())
    report.raise_if_failed()
