"""Blocks in a row whose outputs are all kept, as HGNetV2, YOLOv8 and ELAN join them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


def each_output(x: Tensor, blocks: Iterable[nn.Module]) -> list[Tensor]:
    """`x` and the output of every block, each of which reads the one before it."""
    outputs = [x]
    for block in blocks:
        outputs.append(block(outputs[-1]))
    return outputs
