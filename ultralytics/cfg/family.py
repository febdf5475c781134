"""A family of detectors: its values in default.yaml, and the options that mean nothing to it.

An option whose default differs has a mapping in default.yaml, such as `epochs: {A: 72, B: 100}` for families A and B.
A file of the user may have one, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ultralytics.cfg.plain_data import key_at, read_yaml
from ultralytics.utils import PACKAGE_ROOT
from ultralytics.utils.errors import OptionError

DEFAULT_CFG_PATH = PACKAGE_ROOT / "cfg" / "default.yaml"


@dataclass(frozen=True, eq=False)
class Family:
    """What the options of a family differ in."""

    name: str  # in default.yaml and in messages
    reasons: Mapping[str, str]  # why options are refused, and what to use instead: {reason: names, with blanks between}
    unread: tuple[str, ...] = ()  # options that are accepted, as published models do, and logged as without effect
    resize: str = "stretch"  # how images become the network input, to a square or by "letterbox", as `Head.resize`

    @property
    def refused(self) -> dict[str, str]:
        """Reason by option."""
        return {option: reason for reason, options in self.reasons.items() for option in options.split()}

    def check(self, values: Mapping[str, object], file: object = None) -> None:
        """Raise OptionError for a refused option that is neither off nor at a default; `file` is where it may be."""
        for option, reason in self.refused.items():
            default = default_yaml()[option]
            known = default.values() if isinstance(default, Mapping) else (default,)
            if values[option] not in (None, False, *known):
                where = f"{key_at(file, option)}: " if file else ""
                raise OptionError(f"{where}option {option!r} is not supported by {self.name}: {reason}")


@cache
def default_yaml() -> Mapping[str, object]:
    return read_yaml(DEFAULT_CFG_PATH)


def is_by_family(option: str, value: object) -> bool:
    """Check for a value with one entry for each family."""
    default = default_yaml().get(option)
    return isinstance(value, Mapping) and isinstance(default, Mapping) and {*value} <= {*default} and bool(value)


def of_family(option: str, value: object, family: Family | None) -> object:
    """Return the value of an option for a family; without one, that of the first in the mapping."""
    if not is_by_family(option, value):
        return value
    complete = {**default_yaml()[option], **value}
    return complete[family.name if family else next(iter(complete))]


@cache
def default_values(family: Family | None = None) -> Mapping[str, object]:
    """Return the default of every option for a family; without one, those of the first family."""
    return {option: of_family(option, value, family) for option, value in default_yaml().items()}
