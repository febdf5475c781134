"""Bipartite matching of predictions to boxes (DETR, https://arxiv.org/abs/2005.12872)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ultralytics.utils.ops import bbox_iou

Match = tuple[Tensor, Tensor]  # positions of queries, and of the boxes they are matched to


class HungarianMatcher(nn.Module):
    """One-to-one matching of least total cost: focal class cost, L1 and generalised IoU of the boxes.

    Args:
        cost_gain: weights of `class`, `bbox` and `giou`.
        use_fl: focal class cost; otherwise the negative probability of the class.
        alpha, gamma: of the focal cost, https://arxiv.org/abs/1708.02002.
    """

    def __init__(
        self,
        cost_gain: Mapping[str, float] | None = None,
        use_fl: bool = True,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ):
        super().__init__()
        self.cost_gain = dict(cost_gain or {"class": 2, "bbox": 5, "giou": 2})
        self.use_fl, self.alpha, self.gamma = use_fl, alpha, gamma

    @torch.no_grad()
    def forward(
        self, pred_bboxes: Tensor, pred_scores: Tensor, gt_bboxes: Tensor, gt_cls: Tensor, gt_groups: list[int]
    ) -> list[Match]:
        """Match each image.

        Args:
            pred_bboxes: (B, Q, 4), cx, cy, w, h in 0..1.
            pred_scores: (B, Q, nc), logits.
            gt_bboxes: (N, 4) of all images one after the other.
            gt_cls: (N,) long.
            gt_groups: number of boxes of each image; they sum to N.

        Returns:
            For each image (query, box): positions in Q in ascending order, and positions among all N boxes.
        """
        return self.match_layers(pred_bboxes[None], pred_scores[None], gt_bboxes, gt_cls, gt_groups)[0]

    @torch.compiler.disable  # which does not follow scipy, and would warn of it
    @torch.no_grad()
    def match_layers(
        self, pred_bboxes: Tensor, pred_scores: Tensor, gt_bboxes: Tensor, gt_cls: Tensor, gt_groups: list[int]
    ) -> list[list[Match]]:
        """`forward` for predictions with a leading axis of decoder layers, with one transfer to the CPU for all."""
        layers = pred_bboxes.shape[0]
        costs, first = [], 0
        for image, count in enumerate(gt_groups):
            rows = slice(first, first + count)
            costs.append(self._cost(pred_bboxes[:, image], pred_scores[:, image], gt_bboxes[rows], gt_cls[rows]))
            first += count
        table = torch.cat(costs, -1).cpu()  # (L, Q, N): an image's queries stand beside its own boxes only
        table = table.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6).double().numpy()

        matches: list[list[Match]] = []
        for layer in range(layers):
            images, first = [], 0
            for count in gt_groups:
                query, box = linear_sum_assignment(table[layer, :, first : first + count])
                images.append((torch.from_numpy(query), torch.from_numpy(box) + first))
                first += count
            matches.append(images)
        return matches

    def _cost(self, boxes: Tensor, logits: Tensor, gt_bboxes: Tensor, gt_cls: Tensor) -> Tensor:
        """(L, Q, 4), (L, Q, nc) and n boxes -> (L, Q, n)."""
        p = logits[..., gt_cls].float().sigmoid()
        if self.use_fl:
            present = self.alpha * (1 - p) ** self.gamma * -(p + 1e-8).log()
            absent = (1 - self.alpha) * p**self.gamma * -(1 - p + 1e-8).log()
            class_cost = present - absent
        else:
            class_cost = -p
        boxes, gt_bboxes = boxes.float().unsqueeze(-2), gt_bboxes.float()
        distance = (boxes - gt_bboxes).abs().sum(-1)
        overlap = bbox_iou(boxes, gt_bboxes, xywh=True, GIoU=True).squeeze(-1)
        gain = self.cost_gain
        return gain["class"] * class_cost + gain["bbox"] * distance + gain["giou"] * (1 - overlap)
