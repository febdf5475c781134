"""Allowed values of options and of command arguments: types, ranges and choices, stated as annotations.

`Annotated[int | None, Range(1)]` is an integer >= 1 or null. `check_value` converts and checks Python values,
`parse_value` reads text from the command line first.
"""

import math
import os
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Union, get_args, get_origin

from ultralytics.cfg.plain_data import check_plain, parse_literal
from ultralytics.utils.checks import normalize_device
from ultralytics.utils.errors import OptionError, did_you_mean


@dataclass(frozen=True)
class Range:
    """Allowed range of a number, or of each number in a list; other types pass."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'>' if self.open_low else '>='} {self.low}"
        return f"in {'(' if self.open_low else '['}{self.low}, {self.high}{')' if self.open_high else ']'}"

    def check(self, value: object) -> object:
        """Return `value`; raise ValueError if a number is out of range."""
        open_ends = {self.low} if self.open_low else {self.high} if self.open_high else ()
        for number in value if isinstance(value, list) else [value]:
            if type(number) in (int, float) and (not self.low <= number <= self.high or number in open_ends):
                raise ValueError
        return value


class OneOf:
    """Allowed strings, compared without case and returned as spelled here. Other types pass."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __str__(self) -> str:
        return "one of " + ", ".join(repr(choice) for choice in self.choices)

    def check(self, value: object) -> object:
        """Return `value` in its canonical spelling; raise ValueError if it is not a choice."""
        if not isinstance(value, str):
            return value
        for choice in self.choices:
            if choice.lower() == value.lower():
                return choice
        raise ValueError(did_you_mean(value, self.choices))


class SomeOf(OneOf):
    """Several allowed strings, given as a list or as 'a,b' and returned as a list without duplicates."""

    def __str__(self) -> str:
        return super().__str__().replace("one of", "some of")

    def check(self, value: object) -> object:
        """Return the list of choices; raise ValueError if one is not allowed."""
        words = value.strip("[]()").split(",") if isinstance(value, str) else value or []
        return list(dict.fromkeys(super(SomeOf, self).check(word.strip(" '\"")) for word in words)) or None


class DeviceName:
    """A device as 'cpu', 'mps' or GPU indices, '0' or '0,1'. Availability is checked later, by `select_device`."""

    def __str__(self) -> str:
        return "'cpu', 'mps', a GPU index such as 0, or several such as '0,1'"

    def check(self, value: object) -> object:
        """Return the canonical spelling; raise ValueError if it names no device."""
        return None if value is None else normalize_device(value)


Device = Annotated[int | str | list[int] | None, DeviceName()]

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False,
         "null": None, "none": None, "~": None}  # fmt: skip
_NO_MATCH = object()
_NAMES = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a string",
    dict: "a mapping",
    list[int]: "a list of integers",
    list[float]: "a list of numbers",
    list[str]: "a list of strings",
    list[dict]: "a list of transforms",
    type(None): "null",
}


def alternatives(annotation: object) -> tuple[object, ...]:
    """Return the types of an annotation: (int, NoneType) for `Annotated[int | None, ...]`."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def rules_of(annotation: object) -> tuple[Range | OneOf | DeviceName, ...]:
    return getattr(annotation, "__metadata__", ())


def describe_values(annotation: object) -> str:
    """Describe the allowed values: 'a number in [0, 1] or null'."""
    rules, words = rules_of(annotation), []
    for kind in alternatives(annotation):
        ranges = [str(rule) for rule in rules if isinstance(rule, Range) and kind in (int, float)]
        choices = [str(rule) for rule in rules if isinstance(rule, OneOf) and kind is str]
        words.append(" ".join(choices or [_NAMES[kind], *ranges]))
    for rule in rules:
        if isinstance(rule, (SomeOf, DeviceName)):
            words = [str(rule), *("null" for word in words if word == "null")]
    return " or ".join(words)


def check_value(key: str, value: object, annotation: object) -> object:
    """Convert `value` to plain data of the annotated type, or raise OptionError.

    NumPy numbers become Python numbers, an int is accepted as a float, paths become strings and tuples lists.
    Strings are not read as numbers; see `parse_value`. An empty string, or null where it is no value, is off.
    """
    kinds, hint = alternatives(annotation), ""
    if value is None or (isinstance(value, str) and not value.strip()):
        value = None if type(None) in kinds else False if {bool, str} <= {*kinds} else value
    plain = _first_match(check_plain(value, key, OptionError), kinds)
    if plain is not _NO_MATCH:
        try:
            for rule in rules_of(annotation):
                plain = rule.check(plain)
            return plain
        except ValueError as error:
            hint = str(error)
    elif isinstance(value, str) and _first_match(parse_value(value, annotation), kinds) is not _NO_MATCH:
        hint = f"; write {key}={value} without quotes"
    text = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    raise OptionError(f"{key}: expected {describe_values(annotation)}, got {text} ({type(value).__name__}){hint}")


def _first_match(value: object, kinds: Iterable[object]) -> object:
    """Return the value as the first type it fits, or `_NO_MATCH`."""
    converted = (_convert(value, kind) for kind in kinds)
    return next((x for x in converted if x is not _NO_MATCH), _NO_MATCH)


def _convert(value: object, kind: object) -> object:
    """Return the value as one type, or `_NO_MATCH`. Booleans are not numbers here, but 0 and 1 are booleans."""
    if kind is bool:
        return bool(value) if isinstance(value, bool | Real) and value in (0, 1) else _NO_MATCH
    if kind is type(None):
        return value if value is None else _NO_MATCH
    if kind is str:
        is_device = (type(value).__module__, type(value).__name__) == ("torch", "device")  # without importing torch
        text = os.fspath(value) if isinstance(value, os.PathLike) else value
        text = str(value) if is_device or type(value) is int else text
        return text if isinstance(text, str) and text.strip() else _NO_MATCH
    if kind in (int, float, dict):
        accepted = isinstance(value, {int: Integral, float: Real, dict: Mapping}[kind]) and not isinstance(value, bool)
        return kind(value) if accepted and (kind is not float or math.isfinite(value)) else _NO_MATCH
    items = [_convert(item, get_args(kind)[0]) for item in value] if isinstance(value, (list, tuple)) else []
    return items if (items or (value == [] and kind == list[dict])) and _NO_MATCH not in items else _NO_MATCH


def parse_value(text: str, annotation: object) -> object:
    """Read text as one of the annotated types; text that fits none is returned unchanged, for `check_value` to refuse.

    Where strings are allowed, `007` stays a string, unless the annotation also has numbers.
    """
    text = text.strip()
    kinds = [kind for kind in alternatives(annotation) if kind is not str]
    try:
        value = WORDS[text.lower()] if text.lower() in WORDS else parse_literal(text)
    except ValueError:
        if list[str] not in kinds or (text[:1], text[-1:]) != ("[", "]"):
            return text
        value = [word.strip(" '\"") for word in text[1:-1].split(",")]  # the shell has removed the quotes
    if (match := _first_match(value, kinds)) is not _NO_MATCH:
        return match
    return text if str in alternatives(annotation) else value
