"""Constructor arguments of layers: activations by name, and one-line errors (ModelConfigError) before torch's."""

from collections.abc import Callable
from functools import partial

from torch import nn

from ultralytics.utils.errors import ModelConfigError, did_you_mean

# In place: each follows a batch norm or a sum, which do not need their own output for the gradient.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "silu": partial(nn.SiLU, inplace=True),
    "gelu": nn.GELU,
    "leaky_relu": partial(nn.LeakyReLU, inplace=True),
    "hardswish": partial(nn.Hardswish, inplace=True),
}


def require_whole(where: str, **values: int) -> None:
    """Check for whole numbers of at least 1, such as channels and groups."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelConfigError(f"{where}: {name} must be a whole number from 1, got {value!r}")


def require_multiple(where: str, of: int, **values: int) -> None:
    """Check for multiples of `of`, such as the channels of a layer that splits them into `of` parts."""
    for name, value in values.items():
        if of < 1 or value < of or value % of:
            raise ModelConfigError(f"{where}: {name} must be a multiple of {of}, got {value}")


def require_odd(where: str, **values: int) -> None:
    """Check for odd kernel sizes, which keep the size of the map."""
    require_whole(where, **values)
    for name, value in values.items():
        if value % 2 == 0:
            raise ModelConfigError(f"{where}: {name} must be odd to keep the size of the map, got {value}")


def require_same(where: str, **values: int) -> None:
    """Check for equal values, such as the channels at both ends of a shortcut."""
    if len(set(values.values())) > 1:
        shown = " and ".join(f"{name}={value}" for name, value in values.items())
        raise ModelConfigError(f"{where}: {' and '.join(values)} must be equal, got {shown}")


def activation(act: bool | str | nn.Module | None, default: nn.Module | None = None) -> nn.Module:
    """Build the module for an `act` argument: True for `default`, False or None for identity, a name, or a module.

    A class, such as nn.ReLU, is built; where there is a default, it is no activation, as in the published package.
    """
    if isinstance(act, nn.Module):
        return act
    if isinstance(act, type) and issubclass(act, nn.Module):
        return act() if default is None else nn.Identity()
    if act is True and default is not None:
        return default
    if act is False or act is None:
        return nn.Identity()
    if isinstance(act, str) and act.lower() in ACTIVATIONS:
        return ACTIVATIONS[act.lower()]()
    names = ", ".join(ACTIVATIONS) + (", or True for the default" if default is not None else "")
    near = did_you_mean(str(act), ACTIVATIONS)
    raise ModelConfigError(f"act: expected False, None, a module or one of {names}, got {act!r}{near}")
