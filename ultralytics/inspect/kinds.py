"""What sort of layer a row is, and the colour it has in the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

Shape = tuple[int, ...]

_ATTENTION_WORDS = ("attention", "attn", "aifi", "transformer", "mhsa")  # in names of classes
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Colours:
    """Fill and outline of a box. The text on it is dark; tests hold the contrast above 7 to 1."""

    fill: str
    line: str


# Tints of the palette of Okabe and Ito, which the colour-blind tell apart.
KINDS: dict[str, Colours] = {
    "backbone": Colours("#d5dce6", "#4a5a70"),
    "convolution": Colours("#cfe6f7", "#0072b2"),
    "attention": Colours("#f7d6e6", "#a8477f"),
    "fusion": Colours("#cdeede", "#00795a"),
    "sampling": Colours("#fbe3bd", "#a86f00"),
    "other": Colours("#f0f0f0", "#6b6b6b"),
    "head": Colours("#f9d3c2", "#b84a00"),
}
TEXT = "#1a1a1a"


def kind_of(layer: nn.Module, inputs: Sequence[Shape], outputs: Sequence[Shape], is_head: bool) -> str:
    """The kind of a layer, a key of `KINDS`; sizes are without the batch axis.

    The first that holds: the last layer; several outputs; several inputs; attention in it; listed under `backbone`;
    the map's size changes (strided convolutions, pooling, upsampling); a convolution in it.
    """
    if is_head:
        return "head"
    if layer.slots > 1:
        return "backbone"
    if len(inputs) > 1:
        return "fusion"
    names = {type(module).__name__.lower() for module in layer.modules()}
    if any(word in name for word in _ATTENTION_WORDS for name in names):
        return "attention"
    if layer.in_backbone:
        return "backbone"
    if inputs and outputs and inputs[0][1:] != outputs[0][1:]:
        return "sampling"
    return "convolution" if any(isinstance(module, _CONVOLUTIONS) for module in layer.modules()) else "other"
