"""Auxiliary branch for training that detects at every position of the maps, with one-to-many assignment.

The decoder matches one query per box; here many positions learn from each box. Follows Co-DETR
(https://arxiv.org/abs/2211.12860) and the convolutional branch of RT-DETRv3 (https://arxiv.org/abs/2409.08475).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.transformer import MLP

if TYPE_CHECKING:
    from ultralytics.losses.assigner import DensePrediction


class OneToManyHead(nn.Module):
    """Two narrow MLPs shared by all maps: class logits, and distances from the position to the sides of the box."""

    training_only = True  # left out of the average (`ModelEMA`) and so of every saved model

    def __init__(self, hd: int, nc: int):
        super().__init__()
        width = max(hd // 2, 1)
        self.score, self.bbox = MLP(hd, width, nc, num_layers=2), MLP(hd, width, 4, num_layers=2)
        nn.init.constant_(self.score.layers[-1].bias, -math.log((1 - 0.01) / 0.01))  # 0.01 for every class
        nn.init.zeros_(self.bbox.layers[-1].weight)  # boxes start as squares of four cells
        nn.init.zeros_(self.bbox.layers[-1].bias)

    def forward(self, feats: Tensor, shapes: list[tuple[int, int]]) -> DensePrediction:
        """Predict a box and class logits at every position of the maps, feats (B, S, hd)."""
        from ultralytics.losses.assigner import DensePrediction  # imports torch's compiler

        points = grid(shapes, feats.device)
        cells = torch.cat([points.new_tensor([1 / w, 1 / h]).expand(h * w, 2) for h, w in shapes])  # width and height
        reach = self.bbox(feats).float().clamp(max=6).exp() * 2 * cells.repeat(1, 2)  # (B, S, 4): left, up, right, down
        boxes = torch.cat((points - reach[..., :2], points + reach[..., 2:]), -1)
        return DensePrediction(boxes, self.score(feats).float(), points, cells[0])


def grid(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Return the centers (S, 2) of the cells of all maps, x and y in 0..1."""
    points = []
    for h, w in shapes:
        y = (torch.arange(h, dtype=torch.float32, device=device) + 0.5) / h
        x = (torch.arange(w, dtype=torch.float32, device=device) + 0.5) / w
        points.append(torch.stack((x.expand(h, w), y[:, None].expand(h, w)), -1).flatten(0, 1))
    return torch.cat(points)
