"""Run all checks of a module: `check_module` in Python, `yolo check` on the command line."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from ultralytics.cfg.plain_data import parse_yaml
from ultralytics.cfg.values import Range
from ultralytics.nn.module_check.module_checks import (
    CHECKS,
    FAILURES,
    CheckFailed,
    ModuleUnderTest,
    NotApplicable,
    describe,
    find_module,
    line_of_error,
)
from ultralytics.utils.errors import UserError, counted, did_you_mean

NEED_INFERENCE = ("copies", "weights", "fold", "onnx")  # they compare outputs
MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "-"}


@dataclass(frozen=True)
class Result:
    """Outcome of one check; the reason is one line, with file and line of the module if it failed."""

    check: str
    status: Literal["passed", "failed", "skipped"]
    reason: str


@dataclass(frozen=True)
class Report:
    """Outcome of all checks of a module; `setup` has its file, arguments and inputs."""

    module: str
    setup: str
    results: tuple[Result, ...]

    def __getitem__(self, check: str) -> Result:
        return {result.check: result for result in self.results}[check]

    @property
    def failed(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.status == "failed")

    def table(self) -> str:
        """Return one line for each check."""
        rows = [f"{MARKS[result.status]:<6}  {result.check:<9}  {result.reason}" for result in self.results]
        return "\n".join([f"{self.module} {self.setup}", *rows])


def check_module(
    name: str, args: Sequence[Any] | None = None, channels: int = 64, size: int = 32,
    modules: Sequence[str | Path] = (), skip: Collection[str] = (),
) -> Report:  # fmt: skip
    """Run all checks of a module on the CPU.

    Args:
        name: module, as in a row of a model YAML.
        args: arguments of the row; by default none, or `[channels]` if the plan requires output channels.
        channels: of each input map. Backbones are detected and get an image.
        size: sides of the input maps in pixels; those of an image are at least 64.
        modules: further folders with module files.
        skip: names of checks to leave out.

    Raises:
        UserError: no module, or no check, has that name.
    """
    for word in skip:
        if word not in CHECKS:
            raise UserError(f"skip: no check {word!r}{did_you_mean(word, CHECKS)}; checks: {', '.join(CHECKS)}")
    results: dict[str, Result] = {}
    with torch.random.fork_rng(devices=[]):
        module, error = find_module(name, args, channels, size, [str(folder) for folder in modules])
        for check in CHECKS:
            if check not in skip:
                results[check] = _run_check(check, module, error, results)
    return Report(name, f"({module.entry.origin}), {module}", tuple(results.values()))


def _run_check(check: str, module: ModuleUnderTest, error: BaseException | None, earlier: dict[str, Result]) -> Result:
    """Run one check; `error` is that of building the module. Whatever a user's module raises is a failed check."""
    for needed in ("builds", "inference") if check in NEED_INFERENCE else ("builds",):
        if needed in earlier and earlier[needed].status == "failed":
            return Result(check, "skipped", f"needs {needed}, which failed")
    try:
        if error is not None:
            raise error
        return Result(check, "passed", CHECKS[check](module))
    except NotApplicable as reason:
        return Result(check, "skipped", str(reason))
    except FAILURES as failure:
        explained = isinstance(failure, CheckFailed | UserError)
        reason = " ".join(str(failure).split()) if explained else describe(failure)
        line = line_of_error(failure, module.entry.origin)
        return Result(check, "failed", f"{reason} ({module.entry.origin}{f':{line}' if line else ''})")


def command(
    module: str, args: str | None = None, channels: Annotated[int, Range(1)] = 64,
    size: Annotated[int, Range(1)] = 32, modules: str | None = None,
) -> None:  # fmt: skip
    """Print the table of a module's checks; exit with code 2 if one fails.

    Args:
        module, args: name and arguments as in a row of a model YAML, such as `[64, 3, 2]`.
        channels, size: channels of each input map, and its sides in pixels.
        modules: a folder with module files.
    """
    values = None if args is None else parse_yaml(args, "args")
    if args is not None and not isinstance(values, list):
        raise UserError(f"args: expected a list as in a row of a model YAML, such as args=[64,3,2]; got {args!r}")
    report = check_module(module, values, channels, size, modules=[modules] if modules else [])
    print(report.table())
    if report.failed:
        names = ", ".join(result.check for result in report.failed)
        raise UserError(f"{module}: {len(report.failed)} of {counted(len(report.results), 'check')} failed: {names}")
