"""Checks of constructor arguments of layers: one-line errors instead of those that torch raises later."""

from __future__ import annotations

from ultralytics.utils.errors import ModelConfigError


def require_whole(where: str, **values: int) -> None:
    """Check for whole numbers of at least 1, such as channels and groups.

    Raises:
        ModelConfigError: a value is not.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelConfigError(f"{where}: {name} must be a whole number from 1, got {value!r}")


def require_multiple(where: str, of: int, **values: int) -> None:
    """Check for multiples of `of`, such as the channels of a layer that splits them into `of` parts.

    Raises:
        ModelConfigError: a value is not.
    """
    for name, value in values.items():
        if of < 1 or value < of or value % of:
            raise ModelConfigError(f"{where}: {name} must be a multiple of {of}, got {value}")


def require_odd(where: str, **values: int) -> None:
    """Check for odd kernel sizes, which keep the size of the map.

    Raises:
        ModelConfigError: a value is not an odd number of at least 1.
    """
    require_whole(where, **values)
    for name, value in values.items():
        if value % 2 == 0:
            raise ModelConfigError(f"{where}: {name} must be odd to keep the size of the map, got {value}")


def require_same(where: str, **values: int) -> None:
    """Check for equal values, such as the channels at both ends of a shortcut.

    Raises:
        ModelConfigError: they differ.
    """
    if len(set(values.values())) > 1:
        shown = " and ".join(f"{name}={value}" for name, value in values.items())
        raise ModelConfigError(f"{where}: {' and '.join(values)} must be equal, got {shown}")
