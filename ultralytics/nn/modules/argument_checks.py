"""What the constructors of layers ask of their arguments: one-line errors in place of those that torch gives later."""

from __future__ import annotations

from ultralytics.utils.errors import ModelConfigError


def require_whole(where: str, **values: int) -> None:
    """Refuse values that are not whole numbers from 1, such as channels, groups and divisors of channels.

    Raises:
        ModelConfigError: one is not.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelConfigError(f"{where}: {name} must be a whole number from 1, got {value!r}")


def require_multiple(where: str, of: int, **values: int) -> None:
    """Refuse values that `of` does not divide, such as the channels of a layer that cuts them into `of` parts.

    Raises:
        ModelConfigError: one is not a multiple of it.
    """
    for name, value in values.items():
        if of < 1 or value < of or value % of:
            raise ModelConfigError(f"{where}: {name} must be a multiple of {of}, got {value}")


def require_odd(where: str, **values: int) -> None:
    """Refuse kernel sizes that are not odd where the size of the map has to stay.

    Raises:
        ModelConfigError: one is not an odd number from 1.
    """
    require_whole(where, **values)
    for name, value in values.items():
        if value % 2 == 0:
            raise ModelConfigError(f"{where}: {name} must be odd, so that the size of the map stays, got {value}")


def require_same(where: str, **values: int) -> None:
    """Refuse values that differ, such as the channels on both ends of a shortcut.

    Raises:
        ModelConfigError: they differ.
    """
    if len(set(values.values())) > 1:
        shown = " and ".join(f"{name}={value}" for name, value in values.items())
        raise ModelConfigError(f"{where}: {' and '.join(values)} must be equal, got {shown}")
