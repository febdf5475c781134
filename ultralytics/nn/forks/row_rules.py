"""Row rules of a fork: what its `parse_model` makes of a row, read from the text of its `nn/tasks.py`.

The branch for a module is interpreted as data: assignments, lists, arithmetic, and the few functions that such branches
call. Nothing of the file is executed; a branch with anything else has no rule, and the conventions of `signatures.py`
apply.
"""

import ast
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.utils import PACKAGE_ROOT
from ultralytics.utils.ops import make_divisible

OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.USub: operator.neg, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.eq, ast.IsNot: operator.ne,
    ast.In: lambda item, group: item in group, ast.NotIn: lambda item, group: item not in group,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "make_divisible": make_divisible, "min": min, "max": max, "sum": sum, "round": round, "int": int, "len": len,
    "list": list, "tuple": tuple, "set": list, "frozenset": list, "math.ceil": math.ceil,
    "range": lambda *limits: range(*limits)[:MAX_LIST],
    "abs": abs, "float": float,
}  # fmt: skip
METHODS = ("append", "insert", "extend", "pop")  # of `args`
MAX_LIST = 1000  # entries of a list that a branch builds


class NoRuleError(Exception):
    """A branch that is not plain arithmetic on the row's channels and arguments."""


class BackboneError(Exception):
    """A branch that builds the module from its arguments alone."""


@dataclass(frozen=True)
class Symbol:
    """A class by its name."""

    name: str


def fork_call(name: str, ctx: RowContext, args: Sequence[Any], folders: Sequence[Path]) -> LayerSpec | None:
    """Return the constructor call that the fork of the folders makes of a row; None if no fork has a rule for it."""
    for path in _parsers(folders):
        chain, constants = _branches(path)
        if chain is not None:
            channels = [list(c) if isinstance(c, tuple) else c for c in ctx.inputs]
            values = {
                "f": [*range(len(channels))] if ctx.takes_list else 0, "n": ctx.repeats, "args": list(args),
                "ch": channels, "nc": ctx.nc, "width": ctx.width, "max_channels": ctx.max_channels, "gw": ctx.width,
                "scale": ctx.scale, "m": Symbol(name.removeprefix("torch.")),
            } | ({} if ctx.last is None else {"c2": ctx.last})  # fmt: skip
            run = _Branch(values, constants, ctx)
            try:
                run.execute([chain])
                call = [ctx.find(arg.name).build if isinstance(arg, Symbol) else arg for arg in run.values["args"]]
            except BackboneError:
                return LayerSpec(tuple(args), None)
            except (NoRuleError, TypeError, ValueError, IndexError, KeyError, AttributeError, ZeroDivisionError):
                continue  # the branch does not fit the row, or is no plain arithmetic
            if run.matched:
                return LayerSpec(tuple(call), None, copies=run.values["n"])
    return None


def light_branch(folders: Sequence[Path], blocks: Sequence[str]) -> bool | None:
    """Return whether a fork's parser gives a head behind these blocks the light class branch; None if it is unknown.

    Without a choice by blocks all heads have it in the first releases of 8.3, those with C3k2, and none has it before.
    """
    for path in _parsers(folders):
        _, function = _parse_model(path)
        if function is not None:
            nodes = list(ast.walk(function))
            tests = [n.test for n in nodes if isinstance(n, ast.If) and "legacy = False" in map(ast.unparse, n.body)]
            chosen = {part.id for test in tests for part in ast.walk(test) if isinstance(part, ast.Name)}
            if chosen:
                return not chosen.isdisjoint(blocks)
            names = {n.id for n in nodes if isinstance(n, ast.Name)}
            return None if "legacy" in names else "C3k2" in names
    return None


def _parsers(folders: Sequence[Path]) -> list[Path]:
    """Return the files that would have the parsers of the forks of module folders."""
    return list(dict.fromkeys(parent / "tasks.py" for f in folders for parent in f.parents if parent.name == "nn"))


@cache
def _parse_model(path: Path) -> tuple[ast.Module | None, ast.FunctionDef | None]:
    """Return the syntax tree of a fork's `tasks.py`, and its `parse_model`."""
    if not path.is_file() or path.is_relative_to(PACKAGE_ROOT):
        return None, None
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig", errors="replace"))
    except (SyntaxError, ValueError, RecursionError):
        return None, None
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "parse_model")
    return tree, next(functions, None)


@cache
def _branches(path: Path) -> tuple[ast.If | None, dict[str, ast.expr]]:
    """Return the `if` statement on the module `m` in a fork's `parse_model`, and the named groups of modules."""
    tree, function = _parse_model(path)
    if function is None:
        return None, {}
    constants = {
        node.targets[0].id: node.value
        for node in [*tree.body, *function.body]
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for loop in (node for node in ast.walk(function) if isinstance(node, ast.For)):
        for node in (part for part in loop.body if isinstance(part, ast.If)):
            tests = [part.left for part in ast.walk(node.test) if isinstance(part, ast.Compare)]
            if any(isinstance(left, ast.Name) and left.id == "m" for left in tests):
                return node, constants
    return None, {}


@dataclass
class _Branch:
    """Interpreter of the statements of a branch."""

    values: dict[str, Any]
    constants: dict[str, ast.expr]
    ctx: RowContext
    matched: bool = field(default=False)  # whether a branch, other than the last `else`, fits the module

    def execute(self, body: Sequence[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.If):
                is_chain = any(isinstance(part, ast.Name) and part.id == "m" for part in ast.walk(node.test))
                fits = bool(self.value(node.test))
                self.matched |= fits and is_chain
                self.execute(node.body if fits else node.orelse)
            elif isinstance(node, ast.Assign):
                value = self.value(node.value)
                for target in node.targets:
                    self.assign(target, value)
            elif isinstance(node, ast.AugAssign):
                self.assign(node.target, self.apply(node.op, self.value(node.target), self.value(node.value)))
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                self.value(node.value)
            elif not isinstance(node, ast.Pass):
                raise NoRuleError

    def assign(self, target: ast.expr, value: Any) -> None:
        """Assign to a name, to an entry, or to several."""
        if isinstance(target, ast.Name):
            self.values[target.id] = value
        elif isinstance(target, ast.Subscript):
            self.value(target.value)[self.value(target.slice)] = value
        elif isinstance(target, ast.Tuple) and len(target.elts) == len(value):
            for part, item in zip(target.elts, value, strict=True):
                self.assign(part, item)
        elif not isinstance(target, ast.Attribute):  # of the class, as in `m.legacy = legacy`
            raise NoRuleError

    def value(self, node: ast.expr | None) -> Any:
        kind = type(node).__name__
        handler = getattr(self, f"_{kind.lower()}", None)
        if handler is None:
            raise NoRuleError(kind)
        return handler(node)

    def apply(self, op: ast.AST, *operands: Any) -> Any:
        """Apply an operator; lists are not multiplied, so that they stay short."""
        if isinstance(op, ast.Mult) and not all(isinstance(operand, (int, float)) for operand in operands):
            raise NoRuleError
        return OPERATORS[type(op)](*operands)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.values:
            return self.values[node.id]
        if node.id in self.constants and isinstance(self.constants[node.id], (ast.Call, ast.Set, ast.Tuple, ast.List)):
            return self.value(self.constants[node.id])
        return Symbol(node.id)

    def _attribute(self, node: ast.Attribute) -> Any:
        owner = self.value(node.value)
        if isinstance(owner, Symbol) and owner.name in ("torch", "nn"):
            return Symbol("nn" if node.attr == "nn" else f"nn.{node.attr}")
        if isinstance(owner, Symbol) and self.ctx.find is not None and node.attr == "expansion":
            return self.ctx.find(owner.name).build.expansion
        raise NoRuleError

    def _subscript(self, node: ast.Subscript) -> Any:
        if isinstance(node.value, ast.Call) and ast.unparse(node.value) == "globals()":
            return Symbol(self.value(node.slice))
        if isinstance(node.value, ast.Name) and node.value.id == "d":  # keys are replaced where the file is read
            return self.value(node.slice)
        return self.value(node.value)[self.value(node.slice)]

    def _slice(self, node: ast.Slice) -> slice:
        return slice(*(None if part is None else self.value(part) for part in (node.lower, node.upper, node.step)))

    def _list(self, node: ast.List | ast.Tuple | ast.Set) -> list[Any]:
        items: list[Any] = []
        for part in node.elts:
            items += list(self.value(part.value)) if isinstance(part, ast.Starred) else [self.value(part)]
        return items

    _tuple = _set = _list

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp) -> list[Any]:
        (loop,) = node.generators
        items = []
        for item in list(self.value(loop.iter))[:MAX_LIST]:
            self.assign(loop.target, item)
            if all(self.value(test) for test in loop.ifs):
                items.append(self.value(node.elt))
        return items

    _generatorexp = _setcomp = _listcomp

    def _binop(self, node: ast.BinOp) -> Any:
        return self.apply(node.op, self.value(node.left), self.value(node.right))

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        return self.apply(node.op, self.value(node.operand))

    def _boolop(self, node: ast.BoolOp) -> Any:
        decide = all if isinstance(node.op, ast.And) else any
        return decide(self.value(part) for part in node.values)

    def _compare(self, node: ast.Compare) -> bool:
        items = [self.value(part) for part in (node.left, *node.comparators)]
        return all(self.apply(op, a, b) for op, a, b in zip(node.ops, items, items[1:], strict=False))

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _call(self, node: ast.Call) -> Any:
        name, given = ast.unparse(node.func), self._list(ast.List([*node.args]))
        owner, _, method = name.rpartition(".")
        if owner == "args" and method in METHODS:
            return getattr(self.values["args"], method)(*given)
        if name == "m":
            raise BackboneError
        if name == "isinstance":
            return isinstance(given[0], {"int": int, "str": str, "list": list}[node.args[1].id])
        if name not in FUNCTIONS or node.keywords:
            raise NoRuleError(name)
        return FUNCTIONS[name](*given)
