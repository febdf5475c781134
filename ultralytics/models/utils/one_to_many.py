"""Loss of the one-to-many branch: every position that is assigned to a box learns its class and its sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.modules.one_to_many import DensePrediction
from ultralytics.utils.boxes import bbox_iou, xywh2xyxy, xyxy2xywh
from ultralytics.utils.dist import mean_over_ranks
from ultralytics.utils.tal import TaskAlignedAssigner

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
