"""Which line of a module's file to look at."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from torch import nn


def line_of_error(error: BaseException, file: str) -> int | None:
    """Line of the last frame inside the file, of the error or of the first of its causes that has one."""
    cause: BaseException | None = error
    while cause is not None:
        trace, line = cause.__traceback__, None
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == file:
                line = trace.tb_lineno
            trace = trace.tb_next
        if line is not None:
            return line
        cause = cause.__cause__ or cause.__context__
    return None


def line_of_caller(file: str, function: str | None = None) -> int | None:
    """Line of the innermost running frame inside the file, of the one in `function` where there is such a one."""
    frames = list(_frames(sys._getframe(1), file))
    named = [frame for frame in frames if frame.f_code.co_name == function]
    return next((frame.f_lineno for frame in named or frames), None)


def line_of_definition(build: Callable[..., Any], file: str) -> int | None:
    """Line where a class or function of the file begins, its decorators included."""
    try:
        return inspect.getsourcelines(build)[1] if inspect.getsourcefile(build) == file else None
    except (OSError, TypeError):
        return None  # defined in a notebook or in C: there is no file


def line_of_forward(layer: nn.Module, file: str) -> int | None:
    """Line where the forward of a module begins, or of the first of its submodules that the file defines."""
    found = (line_of_definition(type(module).forward, file) for module in layer.modules())
    return next((line for line in found if line is not None), None)


def line_of_attribute(layer: nn.Module, path: str, file: str) -> int | None:
    """Line of the file that assigns the attribute behind a dotted path such as `blocks.0.gate.weight`.

    The innermost module of the path that the file defines counts: of that path, `self.gate = ...` in its class.
    """
    names, owner, line = path.split("."), layer, None
    for name in names:
        found = (_assignment(kind, name, file) for kind in type(owner).__mro__)
        line = next((number for number in found if number is not None), line)
        owner = getattr(owner, name, None)
        if not isinstance(owner, nn.Module):
            break
    return line


def _assignment(kind: type, name: str, file: str) -> int | None:
    """Line of `self.NAME = ...` in a class that the file defines; of `register_parameter("NAME")` and its like, too.

    The first one counts that sets more than a constant, such as the None of a constructor.
    """
    start = line_of_definition(kind, file)
    if start is None:
        return None
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == kind.__name__]
    nodes = [inner for each in classes for inner in ast.walk(each)]
    constants = {
        id(target)
        for n in nodes
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant)
        for target in n.targets
    }
    found = []
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == name:
            found.append((id(node) in constants, node.lineno))
        if isinstance(node, ast.Call) and any(isinstance(a, ast.Constant) and a.value == name for a in node.args[:1]):
            found.append((False, node.lineno))
    return min(found)[1] if found else None


def trace_lines(action: Callable[[], Any], file: str, observe: Callable[[], Any]) -> list[tuple[int, Any]]:
    """Run an action and observe before each line of the file that it executes, and once more at the end.

    Returns:
        (line that comes next, observation) in order; the last line is 0.
    """
    seen: list[tuple[int, Any]] = []

    def on_line(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        if event in ("line", "return"):
            seen.append((frame.f_lineno, observe()))
        return on_line

    def on_call(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        return on_line if frame.f_code.co_filename == file else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        action()
    finally:
        sys.settrace(before)
        seen.append((0, observe()))
    return seen


def line_of_change(seen: list[tuple[int, Any]]) -> int | None:
    """The line after which the observation left its first value for the last time; None where it kept it."""
    line = None
    for (number, before), (_, after) in pairwise(seen):
        if before == seen[0][1] and after != seen[0][1]:
            line = number
    return line if seen[-1][1] != seen[0][1] else None


def _frames(frame: FrameType | None, file: str) -> Iterator[FrameType]:
    while frame is not None:
        if frame.f_code.co_filename == file:
            yield frame
        frame = frame.f_back
