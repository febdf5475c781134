"""What an option may be: its Python types, its range or choices, and how an offending value is answered."""

from __future__ import annotations

import math
import os
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Protocol, Union, get_args, get_origin

from ultralytics.utils.errors import OptionError, did_you_mean


class Rule(Protocol):
    """A condition beyond the type. `str(rule)` reads on after `expected a number`; see `Range`."""

    def accept(self, value: object) -> object:
        """The value in its canonical form; ValueError where it does not hold."""


@dataclass(frozen=True)
class Range:
    """Bounds of a number, or of each number in a list. Texts, booleans and None pass."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"above {self.low}" if self.open_low else f"of at least {self.low}"
        start = f"above {self.low}" if self.open_low else f"from {self.low}"
        return f"{start} to below {self.high}" if self.open_high else f"{start} to {self.high}"

    def accept(self, value: object) -> object:
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, (int, float)) and not isinstance(number, bool) and not self._holds(number):
                raise ValueError
        return value

    def _holds(self, number: float) -> bool:
        above = number > self.low if self.open_low else number >= self.low
        below = number < self.high if self.open_high else number <= self.high
        return above and below


@dataclass(frozen=True)
class RangeOr(Range):
    """A range, and one more number that has a meaning of its own."""

    other: int = -1
    meaning: str = ""

    def __str__(self) -> str:
        return f"{super().__str__()}, or {self.other} for {self.meaning}"

    def accept(self, value: object) -> object:
        return value if value == self.other else super().accept(value)


class OneOf:
    """A text out of a few, compared without case and returned as written here. Other types pass."""

    def __init__(self, *choices: str):
        self.choices = choices

    def __str__(self) -> str:
        return "one of " + ", ".join(repr(choice) for choice in self.choices)

    def accept(self, value: object) -> object:
        if not isinstance(value, str):
            return value
        by_lower = {choice.lower(): choice for choice in self.choices}
        if value.lower() not in by_lower:
            raise ValueError(did_you_mean(value, self.choices))
        return by_lower[value.lower()]


class SomeOf(OneOf):
    """One or several texts out of a few, as a list or as 'a,b'; the canonical form is a list without repetitions."""

    def __str__(self) -> str:
        return f"one or several of {', '.join(repr(choice) for choice in self.choices)}"

    def accept(self, value: object) -> object:
        if value is None:
            return None
        words = value.strip("[]()").split(",") if isinstance(value, str) else value
        return list(dict.fromkeys(super(SomeOf, self).accept(word.strip(" '\"")) for word in words))


class DeviceName:
    """A device in one spelling: 'cpu', 'mps', or GPU numbers as '0' or '0,1'. Whether it exists is not asked here.

    'cpu,cpu' is two processes on the CPU: a rehearsal for several GPUs.
    """

    def __str__(self) -> str:
        return "'cpu', 'mps', a GPU number such as 0, or several such as '0,1'"

    def accept(self, value: object) -> object:
        if value is None:
            return None
        numbers = value if isinstance(value, list) else [value]
        text = ",".join(str(number) for number in numbers).lower().replace(" ", "")
        text = "0" if text == "cuda" else text.removeprefix("cuda:")
        if text != "mps" and not re.fullmatch(r"\d+(,\d+)*|cpu(,cpu)*", text):
            raise ValueError
        if len(set(text.split(","))) < len(text.split(",")) and "cpu" not in text:
            raise ValueError("; a GPU is named twice")
        return text


class PairOf:
    """A list of exactly two, [height, width]; other types pass."""

    def accept(self, value: object) -> object:
        if isinstance(value, list) and len(value) != 2:
            raise ValueError
        return value


class Off:
    """A switch that cannot be on here, and why. Saying `False` is allowed, since scripts in use say it."""

    def __init__(self, reason: str):
        self.reason = reason

    def __str__(self) -> str:
        return "False"

    def accept(self, value: object) -> object:
        if value:
            raise ValueError(f"; {self.reason}")
        return value


_NO_MATCH = object()
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    dict: "a mapping",
    list[int]: "a list of whole numbers",
    list[str]: "a list of texts",
    type(None): "null",
}


def alternatives(annotation: object) -> tuple[object, ...]:
    """The types an annotation admits: `Annotated[int | None, ...]` gives (int, NoneType)."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def rules_of(annotation: object) -> tuple[Rule, ...]:
    """The rules attached to an annotation."""
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def check_value(key: str, value: object, annotation: object) -> object:
    """The value as plain data of one of the annotation's types; OptionError says what was expected and what came.

    Numbers of other libraries (numpy) become Python's, an int serves as a float, a path becomes text, a tuple a list.
    Text is never read as a number here: that is the command line's job, once.
    """
    readings = (_as_kind(value, kind) for kind in alternatives(annotation))
    plain = next((reading for reading in readings if reading is not _NO_MATCH), _NO_MATCH)
    if plain is _NO_MATCH:
        raise OptionError(f"{key}: expected {_expected(annotation)}; got {_shown(value)}{_quoting_hint(key, value)}")
    for rule in rules_of(annotation):
        try:
            plain = rule.accept(plain)
        except ValueError as error:
            raise OptionError(f"{key}: expected {_expected(annotation)}; got {_shown(value)}{error}") from None
    return plain


def _as_kind(value: object, kind: object) -> object:
    """The value as one type, or `_NO_MATCH`. Only bool takes booleans, although Python counts them as ints."""
    if kind is type(None):
        return None if value is None else _NO_MATCH
    if kind is bool:
        return value if isinstance(value, bool) else _NO_MATCH
    if kind is dict:
        return dict(value) if isinstance(value, Mapping) else _NO_MATCH
    if kind is str:
        is_device = (type(value).__module__, type(value).__name__) == ("torch", "device")  # without importing torch
        text = str(value) if is_device else os.fspath(value) if isinstance(value, os.PathLike) else value
        return text if isinstance(text, str) and text.strip() else _NO_MATCH
    if kind is int:
        return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else _NO_MATCH
    if kind is float:
        real = isinstance(value, Real) and not isinstance(value, bool)
        return float(value) if real and math.isfinite(value) else _NO_MATCH
    if get_origin(kind) is list:
        items = [_as_kind(item, get_args(kind)[0]) for item in value] if isinstance(value, (list, tuple)) else []
        return items if items and _NO_MATCH not in items else _NO_MATCH
    raise TypeError(f"no rule reads the type {kind!r}")


def _expected(annotation: object) -> str:
    rules = rules_of(annotation)
    if any(isinstance(rule, DeviceName) for rule in rules):
        return f"{rules[0]}, or null for the best there is"
    if any(isinstance(rule, Off) for rule in rules):
        return "False"
    if any(isinstance(rule, SomeOf) for rule in rules):
        return f"{rules[0]}, or null"
    words = []
    for kind in alternatives(annotation):
        choice = next((str(rule) for rule in rules if isinstance(rule, OneOf) and kind is str), None)
        bounds = [str(rule) for rule in rules if isinstance(rule, Range) and kind in (int, float)]
        if kind == list[int] and any(isinstance(rule, PairOf) for rule in rules):
            words.append("two such numbers [height, width]")
        else:
            words.append(choice or " ".join([_WORDS[kind], *bounds]))
    return " or ".join(words)


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def _quoting_hint(key: str, value: object) -> str:
    """For text that would be a number or a boolean without its quotes."""
    if isinstance(value, str) and re.fullmatch(
        r"[-+]?\d*\.?\d+(e[-+]?\d+)?|true|false|none|null", value, re.IGNORECASE
    ):
        return f"; write {key}={value} without quotes"
    return ""
