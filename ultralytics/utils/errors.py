"""Errors a user can act on: where, what, got, expected, and the next step. The command line prints them as one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend. Its message stands alone, without a traceback."""


class OptionError(UserError):
    """An unknown option, or a value of the wrong type or range."""


class ModelConfigError(UserError):
    """A model YAML, or one row of it, that cannot be built."""


class DataError(UserError):
    """A data set, image, label file or prediction source that cannot be used."""


class WeightsError(UserError):
    """A weights file that cannot be read or does not belong to the model."""


class DeviceError(UserError):
    """A device that was asked for and is not there."""


class MissingPackageError(UserError, ImportError):
    """An optional package that is not installed; the message has the pip command."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`; did you mean 'epochs'?` for the nearest candidate, or an empty string where nothing is near."""
    names = [str(c) for c in candidates]
    if exact := difflib.get_close_matches(str(word), names, n=1, cutoff=0.8):
        return f"; did you mean {exact[0]!r}?"
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(word).lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""
