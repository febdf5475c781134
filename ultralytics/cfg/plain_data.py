"""Read YAML and literals as plain data, with bounds: the only reader of data, model, option and metadata files.

A small text can describe a value that fills the memory (`a: &a [..]`, `b: [*a, *a, ...]`), or that is nested so deep
that every function that walks it fails. Both are errors, as are values that cannot be built, such as a month 13.
"""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ultralytics.utils.errors import UserError
from ultralytics.utils.files import first_line, read_text

MAX_TEXT = 1 << 20  # characters of a YAML file, which are read at about 100 kB a second
MAX_SIZE = 1 << 22  # characters and values when everything that is used several times is written out
MAX_DEPTH = 40  # of lists and mappings in one another
MAX_BITS = 256  # of an integer
MAX_SCALAR = 200  # characters of a number, a date or a literal
FULL_WIDTH = {"：": ":", "，": ",", "【": "[", "】": "]", "［": "[", "］": "]"}
ODD_VALUE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)  # of constructors
MALFORMED = (*ODD_VALUE, SyntaxError, RecursionError, MemoryError)


def check_plain(value: object, where: str, error: type[UserError] = UserError) -> Any:
    """Return `value` if its lists and mappings are within the bounds; raise `error`, starting with `where`, if not."""
    known: dict[int, tuple[int, int]] = {}  # by identity: size and height of what may be used several times

    def measure(part: object, depth: int) -> tuple[int, int]:
        if isinstance(part, (str, bytes)):
            return 1 + len(part), 0
        if isinstance(part, int) and part.bit_length() > MAX_BITS:
            raise error(f"{where}: an integer of {part.bit_length()} bits, expected at most {MAX_BITS}")
        if not isinstance(part, (Mapping, list, tuple, set, frozenset)):
            return 1, 0
        size, height = known.get(id(part), (1, 1))
        if id(part) not in known and depth < MAX_DEPTH:
            for item in [*part, *part.values()] if isinstance(part, Mapping) else part:
                item_size, item_height = measure(item, depth + 1)
                size, height = size + item_size, max(height, 1 + item_height)
            known[id(part)] = size, height
        if depth + height > MAX_DEPTH:
            raise error(f"{where}: lists or mappings are nested deeper than {MAX_DEPTH}, or contain themselves")
        if size > MAX_SIZE:
            raise error(f"{where}: its values are repeated to a size of more than {MAX_SIZE:,}; write fewer")
        return size, height

    measure(value, 0)
    return value


def parse_literal(text: str) -> Any:
    """Return the value of a Python literal; raise ValueError for any other text.

    Examples:
        >>> parse_literal("{0: 'cat'}")
        {0: 'cat'}
    """
    try:
        return check_plain(ast.literal_eval(text.strip()), "literal")
    except MALFORMED as cause:
        raise ValueError(f"{text[:MAX_SCALAR]!r} is not a literal ({first_line(cause)})") from cause


def read_yaml(path: str | Path, error: type[UserError] = UserError) -> dict:
    """Return the mapping in a YAML file, {} for an empty file; raise `error` with file and line."""
    data = parse_yaml(read_text(path, error), str(path), error)
    if data is not None and not isinstance(data, dict):
        raise error(f"{path}: expected lines of the form `key: value`, got a {type(data).__name__}")
    return data or {}


def key_at(path: str | Path, key: object) -> str:
    """Return `path:line` of a key of a YAML file, the least indented one; `path` if its line is not found."""
    lines = enumerate(read_text(path).splitlines(), 1)
    found = [(len(match[1]), number) for number, line in lines
             if (match := re.match(rf"(\s*)['\"]?{re.escape(str(key))}['\"]?\s*:", line))]  # fmt: skip
    return f"{path}:{min(found)[1]}" if found else str(path)


class StrictLoader(yaml.SafeLoader):
    """SafeLoader that reads `1e-4` as a number (YAML 1.1 has a string), and refuses duplicate keys and odd values."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        seen: set[str] = set()  # keys written in place; merged keys (`<<: *base`) may be overridden
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        kind = node.tag.rpartition(":")[2]
        if isinstance(node, yaml.ScalarNode) and kind != "str" and len(node.value) > MAX_SCALAR:
            raise _unreadable(node, kind, f"more than {MAX_SCALAR} characters")
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # "\\ud800", half of a character, cannot be printed
            return value
        except ODD_VALUE as cause:
            raise _unreadable(node, kind, first_line(cause)) from cause


def _unreadable(node: yaml.Node, kind: str, reason: str) -> yaml.MarkedYAMLError:
    text = repr(node.value[:40]) if isinstance(node, yaml.ScalarNode) else "the value"
    problem = f"{text} cannot be read as {kind} ({reason}); put text in quotes"
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, where: str, error: type[UserError] = UserError) -> Any:
    """Return the value of a YAML text; raise `error`, starting with `where`, if it is not valid or out of bounds."""
    if len(text) > MAX_TEXT:
        raise error(f"{where}: {len(text):,} characters of YAML, expected at most {MAX_TEXT:,}")
    try:
        value = yaml.load(text, Loader=StrictLoader)
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(cause, "problem", None) or first_line(cause)
        raise error(f"{where}{line}: not valid YAML: {reason}{_full_width_hint(text)}") from cause
    except MALFORMED as cause:
        reason = "nested too deep" if isinstance(cause, RecursionError) else first_line(cause)
        raise error(f"{where}: not valid YAML: {reason}") from cause
    return check_plain(value, where, error)


def _full_width_hint(text: str) -> str:
    """Return a hint on full-width punctuation of Chinese keyboards, which YAML does not recognize."""
    for number, line in enumerate(text.splitlines(), 1):
        for wide in FULL_WIDTH.keys() & line.partition("#")[0]:
            return f"; line {number} has a full-width {wide!r}, write {FULL_WIDTH[wide]!r}"
    return ""
