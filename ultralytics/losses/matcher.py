"""Bipartite matching of queries and boxes (DETR, https://arxiv.org/abs/2005.12872)."""

from collections.abc import Mapping
from itertools import accumulate

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ultralytics.utils.ops import bbox_iou

Match = tuple[Tensor, Tensor]  # indices of queries, and of the boxes they are matched to


class HungarianMatcher(nn.Module):
    """Match each box with one query at the least total cost: class, L1 distance and generalized IoU.

    Args:
        cost_gain: weights of `class`, `bbox` and `giou`.
        use_fl: focal class cost; otherwise the negative probability of the class.
        alpha, gamma: parameters of the focal cost (https://arxiv.org/abs/1708.02002).

    Examples:
        >>> logits = torch.tensor([[[0.0], [4.0]]])  # 1 image, 2 queries, 1 class
        >>> queries = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4]]])
        >>> boxes, labels = torch.tensor([[0.5, 0.5, 0.5, 0.4]]), torch.tensor([0])
        >>> HungarianMatcher()(queries, logits, boxes, labels, [1])
        [(tensor([1]), tensor([0]))]
    """

    def __init__(
        self, cost_gain: Mapping[str, float] | None = None, use_fl: bool = True, alpha: float = 0.25, gamma: float = 2.0
    ):
        super().__init__()
        self.cost_gain = dict(cost_gain or {"class": 1, "bbox": 5, "giou": 2})
        self.use_fl, self.alpha, self.gamma = use_fl, alpha, gamma

    def forward(
        self, pred_bboxes: Tensor, pred_scores: Tensor, gt_bboxes: Tensor, gt_cls: Tensor, gt_groups: list[int]
    ) -> list[Match]:
        """Match the queries of each image.

        Args:
            pred_bboxes: (B, Q, 4), cx, cy, w, h in 0..1.
            pred_scores: (B, Q, nc), logits.
            gt_bboxes: (N, 4), boxes of all images, concatenated.
            gt_cls: (N,) long.
            gt_groups: number of boxes per image; they sum to N.

        Returns:
            (query, box) per image: indices in Q in ascending order, and indices in N.
        """
        return self.match_layers(pred_bboxes[None], pred_scores[None], gt_bboxes, gt_cls, gt_groups)[0]

    @torch.compiler.disable  # dynamo cannot trace scipy
    @torch.no_grad()
    def match_layers(
        self, pred_bboxes: Tensor, pred_scores: Tensor, gt_bboxes: Tensor, gt_cls: Tensor, gt_groups: list[int]
    ) -> list[list[Match]]:
        """Match as `forward`, for predictions (L, B, Q, ...) of L decoder layers, with one transfer to the CPU."""
        # cost of each query with the boxes of its own image only
        groups = list(gt_groups)
        labels = zip(gt_bboxes.split(groups), gt_cls.split(groups), strict=True)
        costs = [self._cost(pred_bboxes[:, i], pred_scores[:, i], *gt) for i, gt in enumerate(labels)]  # (L, Q, n)
        cost = torch.cat(costs, -1).nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6).double().cpu()  # (L, Q, N)

        # linear assignment per layer and image
        matches: list[list[Match]] = []
        for layer in cost:
            pairs = [linear_sum_assignment(image) for image in layer.split(groups, -1)]
            numbered = zip(pairs, accumulate(groups[:-1], initial=0), strict=True)
            matches.append([(torch.from_numpy(query), torch.from_numpy(box) + n) for (query, box), n in numbered])
        return matches

    def _cost(self, boxes: Tensor, logits: Tensor, gt_bboxes: Tensor, gt_cls: Tensor) -> Tensor:
        """Compute the cost of every pair: (L, Q, 4), (L, Q, nc), (n, 4), (n,) -> (L, Q, n)."""
        # class
        p = logits[..., gt_cls].float().sigmoid()  # (L, Q, n)
        class_cost = -p
        if self.use_fl:
            positive = self.alpha * (1 - p) ** self.gamma * -(p + 1e-8).log()
            negative = (1 - self.alpha) * p**self.gamma * -(1 - p + 1e-8).log()
            class_cost = positive - negative

        # boxes
        boxes, gt_bboxes = boxes.float().unsqueeze(-2), gt_bboxes.float()  # (L, Q, 1, 4), (n, 4)
        l1 = (boxes - gt_bboxes).abs().sum(-1)
        giou = bbox_iou(boxes, gt_bboxes, xywh=True, GIoU=True).squeeze(-1)
        gain = self.cost_gain
        return gain["class"] * class_cost + gain["bbox"] * l1 + gain["giou"] * (1 - giou)
