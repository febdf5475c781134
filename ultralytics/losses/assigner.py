"""Loss of the one-to-many branch: every position that is assigned to a box learns its class and its sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.one_to_many import DensePrediction
from ultralytics.utils.dist import mean_over_ranks
from ultralytics.utils.ops import bbox_iou, xywh2xyxy, xyxy2xywh

Assignment = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
PAIRS_AT_ONCE = 5_000_000  # pairs of box and prediction looked at together: one image of 500 boxes and 8400 positions


class TaskAlignedAssigner(nn.Module):
    """Gives each box the predictions that classify and place it best, by score^alpha * IoU^beta.

    Candidates are the predictions whose anchor point lies in the box; the `topk` best of them are taken. A prediction
    wanted by several boxes goes to the one it overlaps most. Overlaps are complete IoU, negative ones counted as 0.

    Args:
        topk: predictions a box gets at most.
        num_classes: number of classes.
        alpha, beta: weights of the class score and of the overlap.
        stride: strides of the maps. In the test for candidates a side shorter than the second counts as that long,
            so that a box between two anchor points is not lost.
        eps: guards the divisions.
    """

    def __init__(
        self, topk: int = 13, num_classes: int = 80, alpha: float = 1.0, beta: float = 6.0,
        stride: Sequence[float] | None = None, eps: float = 1e-9,
    ):  # fmt: skip
        super().__init__()
        self.num_classes, self.topk, self.stride = num_classes, topk, tuple(stride or (8, 16, 32))
        self.alpha, self.beta, self.eps = alpha, beta, eps

    @torch.no_grad()
    def forward(
        self, pd_scores: Tensor, pd_bboxes: Tensor, anc_points: Tensor, gt_labels: Tensor, gt_bboxes: Tensor,
        mask_gt: Tensor,
    ) -> Assignment:  # fmt: skip
        """Assign. Images are looked at in groups small enough to bound the memory.

        Args:
            pd_scores: (B, S, num_classes), probabilities.
            pd_bboxes: (B, S, 4), x1, y1, x2, y2 in the unit of `stride` (pixels), like all boxes here.
            anc_points: (S, 2), x and y.
            gt_labels: (B, n, 1), class of each box; n is the largest number of boxes of an image.
            gt_bboxes: (B, n, 4).
            mask_gt: (B, n, 1), 1 for boxes, 0 for the padding of images with fewer.

        Returns:
            target_labels (B, S), target_bboxes (B, S, 4), target_scores (B, S, num_classes), fg_mask (B, S): which
            predictions are assigned, and target_gt_idx (B, S). Where fg_mask is False labels and boxes are those of
            the image's first box, without meaning, and the scores are 0. A box's best prediction gets its largest
            overlap as score, the others in proportion to their alignment.
        """
        count, (batch, positions) = gt_bboxes.shape[1], pd_scores.shape[:2]
        if count == 0:
            empty = torch.zeros_like(pd_scores[..., 0], dtype=torch.long)
            labels = torch.full_like(empty, self.num_classes)
            return labels, torch.zeros_like(pd_bboxes), torch.zeros_like(pd_scores), empty.bool(), empty
        images = max(PAIRS_AT_ONCE // (count * positions), 1)
        parts = [
            self._assign(pd_scores[i], pd_bboxes[i], anc_points, gt_labels[i].long(), gt_bboxes[i], mask_gt[i].bool())
            for i in (slice(first, first + images) for first in range(0, batch, images))
        ]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def _assign(
        self, scores: Tensor, boxes: Tensor, points: Tensor, labels: Tensor, gt_boxes: Tensor, real: Tensor
    ) -> Assignment:
        candidate = self._contains(gt_boxes, points) & real  # (B, n, S), few of them: the rest works on a list of pairs
        image, box, position = candidate.nonzero(as_tuple=True)
        place = image * len(points) + position  # of the prediction among those of all images
        label = labels[image, box, 0]
        overlap = bbox_iou(gt_boxes[image, box], boxes[image, position], xywh=False, CIoU=True).squeeze(-1)
        overlap = overlap.clamp(min=0).to(scores.dtype)
        alignment = scores[image, position, label].pow(self.alpha) * overlap.pow(self.beta)

        chosen = self._best(alignment, candidate)
        chosen = _give_to_one(chosen, overlap, place, scores[..., 0].numel())
        row = (image * gt_boxes.shape[1] + box)[chosen]
        place, overlap, alignment = place[chosen], overlap[chosen], alignment[chosen]
        largest = overlap.new_zeros((2, real.numel()))  # of each box
        largest = largest.scatter_reduce_(1, row.expand(2, -1), torch.stack((overlap, alignment)), "amax")[:, row]
        quality = alignment * largest[0] / (largest[1] + self.eps)

        assigned = torch.zeros_like(scores[..., 0], dtype=torch.bool).flatten()
        owner = torch.zeros_like(assigned, dtype=torch.long)
        target_scores = torch.zeros_like(scores)
        assigned[place], owner[place] = True, box[chosen]
        target_scores.view(-1, scores.shape[2])[place, label[chosen]] = quality
        assigned, owner = assigned.view(scores.shape[:2]), owner.view(scores.shape[:2])
        target_labels = labels.squeeze(-1).gather(1, owner)
        return target_labels, gt_boxes.gather(1, owner.unsqueeze(-1).expand(-1, -1, 4)), target_scores, assigned, owner

    def _contains(self, gt_boxes: Tensor, points: Tensor) -> Tensor:
        """(B, n, 4) and (S, 2) -> (B, n, S): which anchor points lie inside, by more than eps."""
        centre, size = xyxy2xywh(gt_boxes).split(2, -1)
        size = size.clamp(min=self.stride[min(1, len(self.stride) - 1)])
        left, top, right, bottom = xywh2xyxy(torch.cat((centre, size), -1)).split(1, -1)  # each (B, n, 1)
        x, y = points.unbind(-1)
        eps = self.eps
        return (x > left + eps) & (x < right - eps) & (y > top + eps) & (y < bottom - eps)

    def _best(self, alignment: Tensor, candidate: Tensor) -> Tensor:
        """Which of the pairs (K,), the True places of `candidate` (B, n, S), are among the `topk` best of their box."""
        table = alignment.new_zeros(candidate.shape)
        table[candidate] = alignment
        best = table.topk(min(self.topk, candidate.shape[-1]), -1).indices
        return torch.zeros_like(candidate).scatter_(-1, best, True)[candidate]


def _give_to_one(chosen: Tensor, overlap: Tensor, place: Tensor, places: int) -> Tensor:
    """Pairs (K,) that stay: a prediction chosen by several boxes goes to the one of all around it it overlaps most."""
    contested = torch.bincount(place[chosen], minlength=places)[place] > 1  # (K,)
    most = overlap.new_zeros(places).scatter_reduce_(0, place, overlap, "amax")
    rivals = (contested & (overlap == most[place])).nonzero().squeeze(-1)
    first = torch.full((places,), len(place), device=place.device)  # of equals the first box
    first = first.scatter_reduce_(0, place[rivals], rivals, "amin")
    winner = torch.zeros_like(chosen)
    winner[rivals] = first[place[rivals]] == rivals
    return torch.where(contested, winner, chosen)


FINEST_STRIDE = 8.0  # pixels of a cell of the finest map, the unit of the assigner's strides

ClassLoss = Callable[[Tensor, tuple[Tensor, ...], Tensor], Tensor]


def one_to_many_terms(
    dense: DensePrediction, batch: Mapping[str, Any], class_loss: ClassLoss, assigner: TaskAlignedAssigner
) -> dict[str, Tensor]:
    """Terms `class`, `bbox` and `giou` before their gains: sums weighted by, and divided by, the soft targets.

    Args:
        dense: what the branch predicts.
        batch: cls (N,) long, bboxes (N, 4) cx, cy, w, h in 0..1, gt_groups: boxes per image.
        class_loss: (logits, indices of the assigned ones, their soft targets) -> cost of every logit.
        assigner: gives positions to boxes.
    """
    labels, boxes, real = _padded(batch)
    scale = FINEST_STRIDE / dense.cell.repeat(2)  # shares of the image to pixels
    target_labels, target_boxes, target_scores, assigned, _ = assigner(
        dense.scores.detach().sigmoid(), dense.boxes.detach() * scale, dense.points * scale[:2], labels, boxes * scale,
        real,
    )  # fmt: skip
    image, position = assigned.nonzero(as_tuple=True)
    label = target_labels[image, position]
    soft = target_scores[image, position, label]  # (K,)
    total = mean_over_ranks(target_scores.sum()).clamp(min=1)

    predicted, wanted = dense.boxes[image, position], target_boxes[image, position] / scale  # (K, 4)
    distance = (xyxy2xywh(predicted) - xyxy2xywh(wanted)).abs().sum(-1)
    gap = 1 - bbox_iou(predicted, wanted, xywh=False, GIoU=True).squeeze(-1)
    return {
        "class": class_loss(dense.scores, (image, position, label), soft).sum() / total,
        "bbox": (distance * soft).sum() / total,
        "giou": (gap * soft).sum() / total,
    }


def _padded(batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (B, n, 1), boxes (B, n, 4) as corners and which are real (B, n, 1), n boxes being the most of an image."""
    device = batch["bboxes"].device
    counts = torch.tensor(batch["gt_groups"], device=device)
    image = torch.repeat_interleave(torch.arange(len(counts), device=device), counts)
    slot = torch.arange(len(image), device=device) - (counts.cumsum(0) - counts)[image]
    shape = (len(counts), max(batch["gt_groups"], default=0))
    labels = torch.zeros((*shape, 1), dtype=torch.long, device=device)
    boxes = torch.zeros((*shape, 4), device=device)
    real = torch.zeros((*shape, 1), dtype=torch.bool, device=device)
    labels[image, slot, 0], boxes[image, slot], real[image, slot, 0] = batch["cls"], xywh2xyxy(batch["bboxes"]), True
    return labels, boxes, real
