"""The network as exporters trace it: one tensor in, one out, in the precision that was asked for."""

from __future__ import annotations

import copy

from torch import Tensor, nn


class Traced(nn.Module):
    """Images (B, 3, H, W), float32 RGB in 0..1 -> (B, queries, 4 + classes), float32.

    With `half` all layers but the head compute in float16: the head's boxes and feed-forward networks overflow there.
    """

    def __init__(self, network: nn.Module, *, half: bool = False) -> None:
        super().__init__()
        self.network, self.half_type = copy.deepcopy(network).eval(), half
        head = self.network.model[-1]
        head.export = True
        if half:
            self.network.half()
            head.float()
            head.register_forward_pre_hook(lambda _, inputs: ([level.float() for level in inputs[0]], *inputs[1:]))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.half() if self.half_type else images).float()
