"""Layers whose output goes nowhere: most often a row was put in, and the numbers in later rows were not raised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

UNREAD = (
    "no layer reads its output; name it in the `from` of a later row or delete the row. Were rows put in before it? "
    "Numbers after them rise by one for each"
)
DEAD_END = "only layers that lead nowhere read its output; connect them to the head or delete them"


def layer_numbers(layer: nn.Module) -> tuple[int, ...]:
    """The number of each place that a built layer takes: five for a backbone with several outputs, else one."""
    return tuple(range(layer.i - layer.slots + 1, layer.i + 1))


def layer_sources(layer: nn.Module) -> tuple[int, ...]:
    """Numbers of the maps that a built layer reads; -1 is the image."""
    written = layer.f if isinstance(layer.f, list) else [layer.f]
    first = layer_numbers(layer)[0]
    return tuple(s if s >= 0 else max(first + s, -1) for s in written)


def unread_layers(numbers: Sequence[Sequence[int]], sources: Sequence[Sequence[int]]) -> Iterator[tuple[int, str]]:
    """Position of each layer from which no path leads to the last one, and what to do about it, the last first.

    A backbone need not have all its maps read, only one.

    Args:
        numbers: of each layer its own numbers.
        sources: of each layer the numbers it reads.
    """
    useful = {len(numbers) - 1}
    read_at_all = {source for row in sources for source in row}
    for position in range(len(numbers) - 2, -1, -1):
        if any(set(sources[later]) & set(numbers[position]) for later in useful):
            useful.add(position)
        else:
            yield position, DEAD_END if read_at_all & set(numbers[position]) else UNREAD
