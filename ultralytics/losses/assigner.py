"""One-to-many assignment of dense predictions to boxes (TOOD, https://arxiv.org/abs/2108.07755)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ultralytics.utils.ops import bbox_iou, xywh2xyxy, xyxy2xywh
from ultralytics.utils.overrides import Overridable, replaced

Assignment = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
MAX_PAIRS = 5_000_000  # (box, prediction) pairs per chunk: one image of 500 boxes and 8400 positions
FINEST_STRIDE = 8.0  # pixels per cell of the finest map, the unit of the assigner's strides


class DensePrediction(NamedTuple):
    """Predictions of the one-to-many branch at S positions; coordinates are relative to the image, 0..1."""

    boxes: Tensor  # (B, S, 4), x1, y1, x2, y2, possibly outside the image
    scores: Tensor  # (B, S, nc), logits
    points: Tensor  # (S, 2), x and y of the positions
    cell: Tensor  # (2,), width and height of a cell of the finest map


class Matches(NamedTuple):
    """K assigned predictions, in the order of image and position."""

    image: Tensor  # (K,)
    position: Tensor  # (K,)
    box: Tensor  # (K,), number of the box within its image
    quality: Tensor  # (K,), soft target of the class


class TaskAlignedAssigner(Overridable, nn.Module):
    """Assign to each box its `topk` predictions with the highest alignment, score^alpha * CIoU^beta.

    Candidates are predictions whose anchor point is inside the box. A prediction chosen by several boxes is assigned to
    the box with the highest overlap. Negative overlaps count as 0.

    Args:
        alpha, beta: exponents of the class score and of the overlap.
        stride: strides of the maps. Sides shorter than the second stride are extended to it in the candidate test, so
            that a box between two anchor points is not lost (small-target-aware assignment of YOLO26).
        topk2: number of predictions that a box keeps after conflicts are resolved; `topk` by default.
    """

    def __init__(
        self, topk: int = 13, num_classes: int = 80, alpha: float = 1.0, beta: float = 6.0,
        stride: Sequence[float] | None = None, eps: float = 1e-9, topk2: int | None = None,
    ):  # fmt: skip
        super().__init__()
        self.num_classes, self.topk, self.stride = num_classes, topk, tuple(stride or (8, 16, 32))
        self.alpha, self.beta, self.eps, self.topk2 = alpha, beta, eps, topk2 or topk
        self.overlap = replaced("utils.tal.bbox_iou") or bbox_iou

    def forward(
        self, pd_scores: Tensor, pd_bboxes: Tensor, anc_points: Tensor, gt_labels: Tensor, gt_bboxes: Tensor,
        mask_gt: Tensor,
    ) -> Assignment:  # fmt: skip
        """Assign predictions to boxes.

        Args:
            pd_scores: (B, S, num_classes), probabilities.
            pd_bboxes: (B, S, 4), x1, y1, x2, y2 in the unit of `stride` (pixels), like all boxes here.
            anc_points: (S, 2), x and y.
            gt_labels: (B, n, 1), class of each box; n is the largest number of boxes per image.
            gt_bboxes: (B, n, 4).
            mask_gt: (B, n, 1), 1 for boxes, 0 for padding.

        Returns:
            target_labels (B, S), target_bboxes (B, S, 4), target_scores (B, S, num_classes), fg_mask (B, S), the
            assigned predictions, and target_gt_idx (B, S). Where fg_mask is False, labels and boxes are those of box 0.
            The best prediction of a box has its largest overlap as score, the others in proportion to their alignment.
        """
        image, position, box, quality = self.match(pd_scores, pd_bboxes, anc_points, gt_labels, gt_bboxes, mask_gt)
        owner = torch.zeros_like(pd_scores[..., 0], dtype=torch.long)
        assigned, scores = torch.zeros_like(owner, dtype=torch.bool), torch.zeros_like(pd_scores)
        if gt_bboxes.shape[1] == 0:
            return owner + self.num_classes, torch.zeros_like(pd_bboxes), scores, assigned, owner
        owner[image, position], assigned[image, position] = box, True
        scores[image, position, gt_labels[image, box, 0].long()] = quality
        images = torch.arange(len(owner), device=owner.device)[:, None]
        return gt_labels[images, owner, 0].long(), gt_bboxes[images, owner], scores, assigned, owner

    @torch.compiler.disable  # the number of candidates differs from batch to batch
    @torch.no_grad()
    def match(
        self, pd_scores: Tensor, pd_bboxes: Tensor, anc_points: Tensor, gt_labels: Tensor, gt_bboxes: Tensor,
        mask_gt: Tensor, logits: bool = False,
    ) -> Matches:  # fmt: skip
        """Assign as `forward`, in chunks of images that bound the memory; `logits`: `pd_scores` are before sigmoid."""
        n, (batch, positions) = gt_bboxes.shape[1], pd_scores.shape[:2]
        images = max(MAX_PAIRS // max(n * positions, 1), 1)
        starts = range(0, batch if n else 0, images)
        labels, mask, parts = gt_labels.long(), mask_gt.bool(), (slice(start, start + images) for start in starts)
        chunks = [
            self._match(pd_scores[i], pd_bboxes[i], anc_points, labels[i], gt_bboxes[i], mask[i], logits) for i in parts
        ]
        for start, chunk in zip(starts, chunks, strict=True):
            chunk.image.add_(start)
        none = anc_points.new_zeros(0, dtype=torch.long)
        empty = Matches(none, none, none, pd_scores.new_zeros(0))
        return Matches(*(torch.cat(column) for column in zip(empty, *chunks, strict=True)))

    def _match(
        self, scores: Tensor, boxes: Tensor, points: Tensor, labels: Tensor, gt_boxes: Tensor, mask: Tensor,
        logits: bool,
    ) -> Matches:  # fmt: skip
        candidate = self._contains(gt_boxes, points) & mask  # (B, n, S)
        (batch, n, positions), size = candidate.shape, candidate.numel()

        # overlap and alignment of the K candidates; a row is a box of an image, a place a position of an image
        index = candidate.view(-1).nonzero().squeeze(1)  # (K,)
        row, position = index // positions, index % positions
        image = row // n
        place = image * positions + position
        iou = self.iou_calculation(gt_boxes.flatten(0, 1)[row], boxes[image, position]).to(scores.dtype)
        score = scores[image, position, labels.flatten()[row]]
        alignment = (score.sigmoid() if logits else score).pow(self.alpha) * iou.pow(self.beta)

        # top-k predictions per box
        dense = scores.new_zeros(size).index_put((index,), alignment).view(-1, positions)  # (B * n, S)
        best = dense.topk(min(self.topk, positions)).indices
        chosen = candidate.new_zeros(dense.shape).scatter_(1, best, True).view(-1)[index]  # (K,)

        # one box per prediction: the one with the highest overlap, the first of equal ones
        boxes_at = row.new_zeros(batch * positions).index_add(0, place, chosen.long())
        highest = iou.new_zeros(batch * positions).scatter_reduce(0, place, iou, "amax")
        is_highest = iou == highest[place]
        winner = row.new_full((batch * positions,), size).scatter_reduce(0, place[is_highest], row[is_highest], "amin")
        chosen = torch.where(boxes_at[place] > 1, row == winner[place], chosen)
        if self.topk2 < self.topk:
            dense = torch.zeros_like(dense).view(-1).index_put((index,), alignment * chosen).view(-1, positions)
            best = dense.topk(min(self.topk2, positions)).indices
            chosen &= candidate.new_zeros(dense.shape).scatter_(1, best, True).view(-1)[index]

        # soft targets: alignment relative to the highest of the box, times the highest overlap of the box
        place, order = place[chosen].sort()
        image, position, row, iou, alignment = (x[chosen][order] for x in (image, position, row, iou, alignment))
        top_iou, top_alignment = (x.new_zeros(batch * n).scatter_reduce(0, row, x, "amax") for x in (iou, alignment))
        return Matches(image, position, row % n, alignment * top_iou[row] / (top_alignment[row] + self.eps))

    def iou_calculation(self, gt_bboxes: Tensor, pd_bboxes: Tensor) -> Tensor:
        """Compute the overlap, at least 0, of K candidates: corners (K, 4), (K, 4) -> (K,)."""
        return self.overlap(gt_bboxes, pd_bboxes, xywh=False, CIoU=True).view(-1).clamp(min=0)

    def _contains(self, gt_boxes: Tensor, points: Tensor) -> Tensor:
        """Check which anchor points are inside which box: (B, n, 4), (S, 2) -> (B, n, S)."""
        center, size = xyxy2xywh(gt_boxes).split(2, -1)
        size = size.clamp(min=self.stride[min(1, len(self.stride) - 1)])
        left, top, right, bottom = xywh2xyxy(torch.cat((center, size), -1)).split(1, -1)  # each (B, n, 1)
        (x, y), eps = points.unbind(-1), self.eps
        return (x > left + eps) & (x < right - eps) & (y > top + eps) & (y < bottom - eps)


def pad_targets(cls: Tensor, boxes: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return labels (B, n, 1), boxes (B, n, 4) and mask (B, n, 1), padded to the largest number of boxes per image."""
    columns = cls.view(-1, 1), boxes, torch.ones_like(cls).view(-1, 1)
    return tuple(pad_sequence(column.split(list(counts)), batch_first=True) for column in columns)


def assign_dense(
    assigner: TaskAlignedAssigner, dense: DensePrediction, batch: Mapping[str, Any]
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
    """Assign the positions of the one-to-many branch to boxes.

    Args:
        assigner: assigns in pixels.
        dense: predictions of the branch.
        batch: cls (N,) long, bboxes (N, 4) cx, cy, w, h in 0..1, gt_groups: boxes per image.

    Returns:
        Image, position and class of the K assigned predictions; their boxes (K, 4), corners in 0..1; soft targets.
    """
    scale = FINEST_STRIDE / dense.cell.repeat(2)  # the assignment is in pixels
    labels, boxes, mask = pad_targets(batch["cls"], xywh2xyxy(batch["bboxes"]), batch["gt_groups"])
    predicted, points = dense.boxes.detach() * scale, dense.points * scale[:2]
    given = dense.scores.detach(), predicted, points, labels, boxes * scale, mask
    image, position, box, soft = assigner.match(*given, logits=True)
    return (image, position, labels[image, box, 0]), boxes[image, box], soft
