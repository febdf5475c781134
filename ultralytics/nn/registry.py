"""Which modules a model YAML may name, and how each one reads its row.

A module registers itself with a *plan*: a small function from what surrounds the row to constructor arguments and
output channels. The plan's signature is the grammar of the row's arguments.

    @register(plans.conv)
    class MyConv(nn.Module):
        def __init__(self, c1, c2, k=3): ...

makes the row `[-1, 1, MyConv, [64, 5]]` valid. `plans.py` has the shapes that most modules share.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch.nn as nn

from ultralytics.utils.errors import ModelConfigError


@dataclass(frozen=True)
class Context:
    """What surrounds a row.

    Attributes:
        inputs: channels of each input feature map.
        repeats: second column of the row, already multiplied by the depth scale.
        nc: number of classes.
        width: channel multiplier of the scale.
        max_channels: channel cap of the scale, applied before `width`.
        settings: the other top-level keys of the YAML, such as `num_queries`.
        sizes: height and width of each input feature map, for an image of 640 x 640.
        listed: whether the row gives its inputs as a list.
        find: the entry of a module by its name, for rows that name one among their arguments.
        recorded: whether weights are loaded next, so that those which a row names are not wanted.
    """

    inputs: tuple[int, ...]
    repeats: int = 1
    nc: int = 80
    width: float = 1.0
    max_channels: float = float("inf")
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    listed: bool = False
    find: Callable[[str], Entry] | None = None
    recorded: bool = False

    @property
    def c1(self) -> int:
        """Channels of the first input."""
        return self.inputs[0]

    def scaled(self, channels: int) -> int:
        """Output channels after the cap and the width of the scale, rounded up to a multiple of 8.

        Raises:
            ModelConfigError: `channels` is not a number above 0.
        """
        if not isinstance(channels, int | float) or channels <= 0:
            raise ModelConfigError(f"output channels must be a number above 0, got {channels!r}")
        if channels == self.nc:
            return channels
        return max(8, -int(-min(channels, self.max_channels) * self.width // 8) * 8)

    def require_once(self) -> None:
        """Refuse repeats in a row whose module has no use for them, rather than pass over them.

        Raises:
            ModelConfigError: the second column of the row is not 1.
        """
        if self.repeats != 1:
            raise ModelConfigError(
                f"it cannot be repeated; write 1 in the second column of the row, got {self.repeats}"
            )


@dataclass(frozen=True)
class Plan:
    """How to build a row.

    Attributes:
        args: positional constructor arguments.
        out: output channels; a tuple for a layer with several outputs; None where a run on the meta device tells.
        copies: how many instances stand in sequence.
        kwargs: keyword constructor arguments.
    """

    args: tuple[Any, ...]
    out: int | tuple[int, ...] | None
    copies: int = 1
    kwargs: Mapping[str, Any] = field(default_factory=dict)


PlanFunction = Callable[..., Plan]


@dataclass(frozen=True)
class Entry:
    """A constructor and where it was defined.

    Attributes:
        plan: None for a module that did not register itself; `infer.py` works its arguments out.
        yields: whether a file of the user's that defines the name takes its place, as for the examples of the package.
        note: what the layer table says beside it.
    """

    name: str
    build: Callable[..., nn.Module]
    plan: PlanFunction | None
    origin: str
    yields: bool = False
    note: str = ""


class Registry:
    """Entries by name. A second registration of a name is an error that names both files."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._collected: dict[str, Entry] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, name: str) -> Entry | None:
        """The entry of that name, or None."""
        return self._entries.get(name)

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    @contextmanager
    def collect(self) -> Iterator[dict[str, Entry]]:
        """Gather what is registered within the block apart: the modules of a folder that one model names, not all."""
        self._collected = {}
        try:
            yield self._collected
        finally:
            self._collected = None

    def add(self, entry: Entry) -> None:
        """Register an entry; importing the same definition again replaces it.

        Raises:
            ModelConfigError: another file has registered this name.
        """
        target = self._entries if self._collected is None else self._collected
        for present in (self._entries.get(entry.name), target.get(entry.name)):
            if present and present.origin != entry.origin and not present.yields:
                if entry.yields:
                    return
                raise ModelConfigError(
                    f"module {entry.name!r} is defined twice: {present.origin} and {entry.origin}; rename one"
                )
        target[entry.name] = entry


REGISTRY = Registry()


def register(
    plan: PlanFunction, name: str | None = None, yields: bool = False
) -> Callable[[Callable[..., nn.Module]], Any]:
    """Decorator for a module class or factory function: make it known to model YAMLs under its own name, or `name`.

    `yields` lets a file of the user's that defines the same name take its place.
    """

    def decorate(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        REGISTRY.add(Entry(name or build.__name__, build, plan, _origin(build), yields))
        return build

    return decorate


def _origin(build: Callable[..., nn.Module]) -> str:
    """File that defines a class or function; in a notebook, which is no file, the name of its module."""
    if inspect.isfunction(build):
        return build.__code__.co_filename
    return getattr(sys.modules.get(build.__module__), "__file__", None) or build.__module__
