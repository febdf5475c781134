"""Exports without the remarks of the packages that make them: the comparison at the end is what they advise."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Without torch's warnings on tracing, and without gradients."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", module="torch.onnx")
        yield


@contextmanager
def only_errors(logger: str | None = None) -> Iterator[None]:
    """A logger, the root by default, lets nothing but errors through."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
