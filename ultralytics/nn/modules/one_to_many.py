"""An auxiliary branch that detects at every position of the maps, for training only.

Many positions learn from each box, where the decoder's matching teaches one query a box. In the spirit of Co-DETR
(https://arxiv.org/abs/2211.12860) and of the convolutional branch of RT-DETRv3 (https://arxiv.org/abs/2409.08475).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ultralytics.losses.assigner import DensePrediction
from ultralytics.nn.modules.transformer import MLP


class OneToManyHead(nn.Module):
    """Two networks of two layers, shared by all maps: classes, and distances from the position to the box's sides.

    They are narrow, since the maps are to learn, and not the branch.

    Args:
        hd: channels of the projected maps.
        nc: number of classes.
    """

    training_only = True  # an average of the weights (`ModelEMA`), and so every saved model, is without it

    def __init__(self, hd: int, nc: int):
        super().__init__()
        width = max(hd // 2, 1)
        self.score, self.bbox = MLP(hd, width, nc, num_layers=2), MLP(hd, width, 4, num_layers=2)
        nn.init.constant_(self.score.layers[-1].bias, -math.log((1 - 0.01) / 0.01))  # 0.01 for every class
        nn.init.zeros_(self.bbox.layers[-1].weight)  # boxes start as squares of four cells
        nn.init.zeros_(self.bbox.layers[-1].bias)

    def forward(self, feats: Tensor, shapes: list[tuple[int, int]]) -> DensePrediction:
        """Detect.

        Args:
            feats: (B, S, hd), the maps' positions one after the other.
            shapes: (h, w) of each map.
        """
        points, cells = _grid(shapes, feats.device)
        reach = self.bbox(feats).float().clamp(max=6).exp() * 2 * cells.repeat(1, 2)  # (B, S, 4): left, up, right, down
        boxes = torch.cat((points - reach[..., :2], points + reach[..., 2:]), -1)
        return DensePrediction(boxes, self.score(feats).float(), points, cells[0])


def _grid(shapes: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres (S, 2) of the maps' cells, x and y in 0..1, and the width and height of each cell (S, 2)."""
    points, cells = [], []
    for h, w in shapes:
        y = (torch.arange(h, dtype=torch.float32, device=device) + 0.5) / h
        x = (torch.arange(w, dtype=torch.float32, device=device) + 0.5) / w
        points.append(torch.stack((x.expand(h, w), y[:, None].expand(h, w)), -1).flatten(0, 1))
        cells.append(points[-1].new_tensor([1 / w, 1 / h]).expand(h * w, 2))
    return torch.cat(points), torch.cat(cells)
