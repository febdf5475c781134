"""Losses of YOLO in the parts that custom training scripts of the published package replace; see `losses/yolo.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ultralytics.cfg.options import get_cfg
from ultralytics.losses.assigner import TaskAlignedAssigner
from ultralytics.losses.iou import IoULoss
from ultralytics.losses.yolo import DualAssignmentLoss, distribution_loss
from ultralytics.nn.head_protocol import by_level
from ultralytics.utils.dist import mean_over_ranks
from ultralytics.utils.ops import bbox2dist, dist2bbox, make_anchors, xywh2xyxy
from ultralytics.utils.overrides import accepted, replaced


class LossItems(dict):
    """Detached terms by name, or by number as in the tensor of release 8.3."""

    def __missing__(self, index: int) -> Tensor:
        return torch.stack([*self.values()])[index]


class FocalLoss(nn.Module):
    """Focal loss of logits (B, A, nc) with targets in 0..1, https://arxiv.org/abs/1708.02002: a sum over images."""

    def __init__(self, gamma: float = 1.5, alpha: float = 0.25) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Compute the mean over positions, summed."""
        p, balance = pred.sigmoid(), label * self.alpha + (1 - label) * (1 - self.alpha) if self.alpha > 0 else 1
        weight = balance * (label + p - 2 * label * p) ** self.gamma
        return F.binary_cross_entropy_with_logits(pred, label, weight, reduction="none").mean(1).sum()


class VarifocalLoss(FocalLoss):
    """Varifocal loss of logits (B, A, nc), https://arxiv.org/abs/2008.13367: a sum over images."""

    def __init__(self, gamma: float = 2.0, alpha: float = 0.75) -> None:
        super().__init__(gamma, alpha)

    def forward(self, pred_score: Tensor, gt_score: Tensor, label: Tensor) -> Tensor:
        """Compute the mean over positions, summed; `label` is 1 at the true classes, `gt_score` their target."""
        weight = self.alpha * pred_score.sigmoid() ** self.gamma * (1 - label) + gt_score * label
        return F.binary_cross_entropy_with_logits(pred_score, gt_score, weight, reduction="none").mean(1).sum()


class DFLoss(nn.Module):
    """Distribution focal loss of distances, https://arxiv.org/abs/2006.04388."""

    def __init__(self, reg_max: int = 16) -> None:
        super().__init__()
        self.reg_max = reg_max

    def forward(self, pred_dist: Tensor, target: Tensor) -> Tensor:
        """Compute the mean of the four sides: logits (4 K, reg_max), distances (K, 4) in cells -> (K, 1)."""
        return distribution_loss(pred_dist.view(*target.shape, self.reg_max), target)[..., None]


class BboxLoss(nn.Module):
    """Loss of the assigned boxes: CIoU, and the distribution of the distances of their sides (DFL)."""

    def __init__(self, reg_max: int = 16) -> None:
        super().__init__()
        self.dfl_loss = (replaced("DFLoss") or DFLoss)(reg_max) if reg_max > 1 else None
        overlap = replaced("utils.loss.bbox_iou")
        self.iou = (lambda a, b, _: 1 - overlap(a, b, xywh=False, CIoU=True)) if overlap else IoULoss("ciou")

    def forward(
        self, pred_dist: Tensor, pred_bboxes: Tensor, anchor_points: Tensor, target_bboxes: Tensor,
        target_scores: Tensor, target_scores_sum: Tensor, fg_mask: Tensor, imgsz: Tensor | None = None,
        stride: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Compute both from distances (B, A, 4 * reg_max), corners (B, A, 4) in cells, and scores (B, A, nc).

        Without distributions (reg_max=1), `imgsz` (height, width) and `stride` (A, 1) scale the distances.
        """
        weight, predicted = target_scores.sum(-1)[fg_mask], pred_dist[fg_mask]  # (K,), (K, 4 * reg_max)
        size = torch.ones_like(anchor_points) if imgsz is None else imgsz.flip(-1) / stride  # (A, 2) in cells
        size = size.expand(*fg_mask.shape, 2)[fg_mask]
        overlap = self.iou(pred_bboxes[fg_mask], target_bboxes[fg_mask], size.unbind(-1)).view(-1)
        reach = bbox2dist(anchor_points, target_bboxes)[fg_mask]
        l1 = ((predicted - reach) / size.repeat(1, 2)).abs() if self.dfl_loss is None else None
        side = self.dfl_loss(predicted.view(-1, self.dfl_loss.reg_max), reach) if l1 is None else l1.mean(-1)
        return (overlap * weight).sum() / target_scores_sum, (side.view(-1) * weight).sum() / target_scores_sum


class v8DetectionLoss:
    """Loss of a branch of YOLO, a `criterion`: the terms times images, and the items.

    Scripts replace its parts, `bce`, `assigner` and `bbox_loss`, or override `loss` or `__call__`. It computes what
    `DetectionLoss` does, which takes less time and memory.
    """

    sums_images = True

    def __init__(self, model: nn.Module, tal_topk: int = 10, tal_topk2: int | None = None) -> None:
        head, self.device = model.model[-1], next(model.parameters()).device
        self.hyp = getattr(model, "args", None) or get_cfg()
        self.stride, self.nc, self.reg_max = head.stride, head.nc, getattr(head, "reg_max", 16)
        self.no, self.use_dfl = self.nc + 4 * self.reg_max, self.reg_max > 1
        self.loss_names = "box_loss", "cls_loss", "dfl_loss" if self.use_dfl else "l1_loss"
        self.class_weights = getattr(head, "class_weights", None)
        self.proj = torch.arange(self.reg_max, dtype=torch.float, device=self.device)
        self.bce = nn.BCEWithLogitsLoss(reduction="none")
        assign, given = replaced("TaskAlignedAssigner") or TaskAlignedAssigner, {"topk2": tal_topk2, "alpha": 0.5}
        given |= {"topk": tal_topk, "num_classes": self.nc, "beta": 6.0, "stride": self.stride.tolist()}
        self.assigner = assign(**accepted(assign, **given))
        self.bbox_loss = (replaced("BboxLoss") or BboxLoss)(self.reg_max).to(self.device)
        if isinstance(getattr(self.bbox_loss, "iou", None), IoULoss):
            self.bbox_loss.iou = IoULoss.from_options(self.hyp, default="ciou").to(self.device)

    def preprocess(self, targets: Tensor, batch_size: int, scale_tensor: Tensor) -> Tensor:
        """Return class and corners (B, n, 5), scaled and padded with 0, of rows: image, class, cx, cy, w, h."""
        rows = targets[targets[:, 0].argsort(stable=True)]
        counts = rows[:, 0].long().bincount(minlength=batch_size).tolist()
        labels, boxes = pad_sequence(rows[:, 1:].split(counts), batch_first=True).split((1, 4), 2)
        return torch.cat((labels, xywh2xyxy(boxes * scale_tensor)), 2)

    def bbox_decode(self, anchor_points: Tensor, pred_dist: Tensor) -> Tensor:
        """Decode (B, A, 4 * reg_max) to corners (B, A, 4), in cells."""
        if self.use_dfl:
            pred_dist = (pred_dist.unflatten(-1, (4, -1)).softmax(-1) * self.proj.to(pred_dist)).sum(-1)
        return dist2bbox(pred_dist, anchor_points, xywh=False)

    def parse_output(self, preds: Any) -> Mapping[str, Any]:
        """Return the raw predictions of the output in training or in eval mode, or of a map for each level."""
        preds = preds[1] if isinstance(preds, tuple) else preds
        if isinstance(preds, Sequence):
            dist, scores = torch.cat([level.flatten(2) for level in preds], 2).split((4 * self.reg_max, self.nc), 1)
            preds = {"boxes": dist, "scores": scores, "feats": preds}
        return preds

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, LossItems]:
        """Compute `loss` of the network's output, of the one-to-many branch if there are two."""
        preds = self.parse_output(preds)
        return self.loss(preds.get("one2many", preds), batch)

    def loss(self, preds: Mapping[str, Any], batch: Mapping[str, Any]) -> tuple[Tensor, LossItems]:
        """Compute the terms (3,), multiplied by their gains and the number of images, and the items."""
        _, terms, items = self.get_assigned_targets_and_loss(preds, batch)
        return terms * len(preds["scores"]), items

    def get_assigned_targets_and_loss(
        self, preds: Mapping[str, Any], batch: Mapping[str, Any], **assign_kwargs: Any
    ) -> tuple[tuple[Tensor, ...], Tensor, LossItems]:
        """Return (assigned predictions, box numbers, boxes in pixels, points, strides), the terms (3,), and items."""
        dist, scores = (preds[name].float().mT.contiguous() for name in ("boxes", "scores"))
        points, strides = make_anchors(preds["feats"], self.stride, 0.5)
        size = scores.new_tensor(preds["feats"][0].shape[2:]) * float(self.stride[0])  # height, width
        rows = torch.cat((batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), batch["bboxes"]), 1)
        labels, corners = self.preprocess(rows.to(scores), len(scores), size[[1, 0, 1, 0]]).split((1, 4), 2)
        boxes, mask = self.bbox_decode(points, dist), corners.sum(2, keepdim=True) > 0
        pixels, places = boxes.detach() * strides, points * strides
        _, targets, quality, assigned, index = self.assigner(
            scores.detach().sigmoid(), pixels, places, labels, corners, mask, **assign_kwargs
        )
        total = quality.sum()
        total = (mean_over_ranks(total) if scores.requires_grad else total).clamp(min=1)
        cls = self.bce(scores, quality)
        cls = (cls if self.class_weights is None else cls * self.class_weights.to(cls)).sum() / total
        box, side = boxes.sum() * 0, dist.sum() * 0
        if assigned.any():
            given = dist, boxes, points, targets / strides, quality, total, assigned
            box, side = self.bbox_loss(*given, **accepted(self.bbox_loss.forward, imgsz=size, stride=strides))
        terms = torch.stack((box * self.hyp.box, cls * self.hyp.cls, side * self.hyp.dfl))
        items = LossItems(zip(self.loss_names, terms.detach(), strict=False))  # a subclass may add names
        return (assigned, index, targets, points, strides), terms, items


class E2ELoss(DualAssignmentLoss):
    """Loss of a YOLO with two branches, each a `loss_fn`, for `criterion = E2ELoss(model)`."""

    def __init__(self, model: nn.Module, loss_fn: Callable[..., Any] | None = None) -> None:
        loss, progressive = loss_fn or replaced("v8DetectionLoss") or v8DetectionLoss, model.model[-1].reg_max == 1
        one2one = {"tal_topk": 7, "tal_topk2": 1} if progressive else {"tal_topk": 1}
        super().__init__(loss(model, tal_topk=10), loss(model, **one2one), progressive)

    def forward(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Any]:
        """Compute the weighted terms of both branches, and the items of the one-to-one branch."""
        preds = by_level(preds[1] if isinstance(preds, tuple) else preds)
        many, (one, items) = self.one2many(preds["one2many"], batch)[0], self.one2one(preds["one2one"], batch)
        return (many * self.share + one * (1 - self.share) if self.progressive else many + one), items
