"""Query selection in training that keeps only the selected positions for the backward pass.

All positions are scored, but only the selected ones have a gradient: a few hundred of several thousand. So the features
of all positions are computed without a graph, which saves their memory and the backward pass through them, and those of
the selected positions once more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ultralytics.nn.modules.head import RTDETRDecoder, gather_rows


class SelectedGradientDecoder(RTDETRDecoder):
    """`RTDETRDecoder` that in training projects all positions without gradients, and the selected ones once more.

    In eval it is `RTDETRDecoder`.
    """

    plain, label = RTDETRDecoder, "query selection with gradients of selected positions only"

    def _select_queries(self, memory: Tensor, shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not self.training:
            return super()._select_queries(memory, shapes)
        anchors, valid = self._anchors(shapes, memory)

        # scores of all positions; positions with an invalid anchor count as zeros
        with torch.no_grad():
            blank = self.enc_score_head(self.enc_output(memory.new_zeros(1, 1, self.hidden_dim)))
            scores = torch.where(valid, self.enc_score_head(self.enc_output(memory)), blank)  # (B, S, nc)

        # top-k positions
        best = scores.amax(-1).topk(min(self.num_queries, memory.shape[1]), dim=1).indices  # (B, nq)
        anchors = gather_rows(anchors.expand(memory.shape[0], -1, -1), best)
        columns = best.unsqueeze(1).expand(-1, memory.shape[-1], -1)  # (B, hd, nq), the memory's own layout
        rows = memory.transpose(1, 2).gather(2, columns).transpose(1, 2)  # (B, nq, hd)

        # the same with gradients
        features = self.enc_output(anchors[..., :1].isfinite() * rows)
        return self._initial_queries(features, self.enc_score_head(features), anchors)
