"""What deserves a second look in a model that builds: each finding names the layer and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from ultralytics.inspect.usage import ParameterUse
from ultralytics.nn.modules.conv import Concat
from ultralytics.nn.unread import unread_layers

if TYPE_CHECKING:
    from ultralytics.inspect.measure import LayerRow

CHANNEL_STEP = 8  # channels in half precision that GPUs compute at once


@dataclass(frozen=True)
class Finding:
    """One remark. `layer` is its number, `text` what is found and what to do about it."""

    layer: int
    module: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: layer {self.layer} {self.module}: {self.text}"


def find_faults(rows: Sequence[LayerRow], layers: Sequence[nn.Module], use: ParameterUse) -> list[Finding]:
    """All findings in the order of the layers.

    Args:
        rows: the measured layers.
        layers: their modules.
        use: what the run saw of all layers but the last, whose training-only parts a run in eval does not show.
    """
    found: list[tuple[int, str]] = list(unread_layers([r.numbers for r in rows], [r.sources for r in rows]))
    for position, (row, layer) in enumerate(zip(rows, layers, strict=True)):
        if position == len(rows) - 1:
            found += [(position, text) for text in _head_strides(row, rows)]
            continue
        found += [(position, text) for text in (*_channels(row), *_does_nothing(row, layer))]
        found += [(position, text) for text in (*_normalisation(position, use), *_parameters(position, use))]
    return [
        Finding(rows[i].index, rows[i].module, rows[i].where, text) for i, text in sorted(found, key=lambda f: f[0])
    ]


def _channels(row: LayerRow) -> Iterator[str]:
    """Widths that are no multiple of 8, where they arise: a layer that passes them on is not told again."""
    if any(shape[0] % CHANNEL_STEP for shape in row.inputs if len(shape) == 3 and shape[0] != 3):
        return
    for shape in row.outputs:
        if len(shape) == 3 and shape[0] % CHANNEL_STEP:
            lower = shape[0] // CHANNEL_STEP * CHANNEL_STEP
            choice = f"{lower} or {lower + CHANNEL_STEP}" if lower else str(CHANNEL_STEP)
            yield (
                f"{shape[0]} output channels are no multiple of {CHANNEL_STEP}, which GPUs compute more slowly in half "
                f"precision; {choice} would be"
            )


def _does_nothing(row: LayerRow, layer: nn.Module) -> Iterator[str]:
    if isinstance(layer, nn.Identity) or (isinstance(layer, Concat) and len(row.sources) == 1):
        yield "returns its input unchanged; delete the row, and lower the layer numbers behind it by one"
    elif isinstance(layer, nn.Upsample) and row.inputs == row.outputs:
        yield "the map comes out in the size it went in; set its scale_factor, or delete the row"


def _normalisation(position: int, use: ParameterUse) -> Iterator[str]:
    names = use.single_valued(position)
    if names:
        yield (
            f"batch normalisation {names[0]!r} sees one value per channel and image, so a batch of one image is "
            "normalised by the running statistics; keep batch= well above 1, or normalise by nn.GroupNorm there"
        )


def _parameters(position: int, use: ParameterUse) -> Iterator[str]:
    names = use.unread(position)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield (
            f"its forward does not read parameter {names[0]!r}{more} in eval mode; a part that is never used is to be "
            "deleted from the module"
        )


def _head_strides(head: LayerRow, rows: Sequence[LayerRow]) -> Iterator[str]:
    strides_of = {n: s for row in rows for n, s in zip(row.numbers, row.strides, strict=False)}
    strides = [strides_of.get(source) for source in head.sources]
    if None in strides or len(strides) < 2:
        return
    if any(abs(later / earlier - 2) > 0.25 for earlier, later in pairwise(strides)):
        shown = ", ".join(f"{s:g}" for s in strides)
        yield (
            f"the maps that go in have strides {shown}; expected each twice the one before, finest first, such as "
            "8, 16, 32: check the layer numbers in its `from`"
        )
