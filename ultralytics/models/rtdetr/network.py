"""The network of whatever a script names as a model."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ultralytics.utils.errors import OptionError


def network_from(model: nn.Module | str | Path | object | None, option: str | None, verbose: bool = True) -> nn.Module:
    """A network as it is, that of an `RTDETR`, or that of a file; the file of the option `model` where there is none.

    Raises:
        OptionError: neither a model nor a file is given.
    """
    from ultralytics.models.rtdetr.model import RTDETR  # which imports validator and predictor, that import this

    if isinstance(model, nn.Module):
        return model
    if isinstance(model, RTDETR):
        return model.model
    file = model or option
    if not isinstance(file, (str, Path)):
        raise OptionError(
            f"model: got {file!r}, expected a network, or a file: model= in the call, or in overrides={{'model': ...}}"
        )
    return RTDETR(file, verbose=verbose).model
