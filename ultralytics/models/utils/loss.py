"""Loss of RT-DETR (https://arxiv.org/abs/2304.08069): classes by IoU-aware varifocal loss, boxes by L1 and GIoU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.models.utils.ops import HungarianMatcher, Match
from ultralytics.utils.boxes import bbox_iou
from ultralytics.utils.dist import mean_over_ranks


class RTDETRDetectionLoss(nn.Module):
    """Set loss of all decoder layers, the encoder's selection, and the denoising queries.

    Every term is a sum divided by the number of matched boxes. The decoder layers but the last, and the encoder, are
    auxiliary: matched and weighed alike, reported together.

    Args:
        nc: number of classes.
        loss_gain: weights of `class`, `bbox` and `giou`.
        use_vfl: varifocal loss (https://arxiv.org/abs/2008.13367); otherwise focal, or BCE without `use_fl`.
        alpha, gamma: of the varifocal or focal loss.
        matcher: how queries and boxes are paired.
    """

    def __init__(
        self,
        nc: int = 80,
        loss_gain: Mapping[str, float] | None = None,
        use_fl: bool = True,
        use_vfl: bool = True,
        gamma: float = 1.5,
        alpha: float = 0.25,
        matcher: HungarianMatcher | None = None,
    ):
        super().__init__()
        self.nc = nc
        self.loss_gain = dict(loss_gain or {"class": 1, "bbox": 5, "giou": 2})
        self.use_fl, self.use_vfl, self.gamma, self.alpha = use_fl, use_vfl, gamma, alpha
        self.matcher = matcher or HungarianMatcher()

    def forward(
        self,
        preds: tuple[Tensor, Tensor],
        batch: Mapping[str, Any],
        dn_bboxes: Tensor | None = None,
        dn_scores: Tensor | None = None,
        dn_meta: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """All terms, after their gains.

        Args:
            preds: boxes (L, B, Q, 4) as cx, cy, w, h in 0..1 and logits (L, B, Q, nc); the encoder first.
            batch: cls (N,) long, bboxes (N, 4), gt_groups: boxes per image.
            dn_bboxes, dn_scores: the same of the denoising queries, without the encoder.
            dn_meta: `dn_pos_idx` and `dn_gt_idx` of `get_cdn_group`.
        """
        boxes, scores = preds[0].float(), preds[1].float()
        matches = self.matcher.match_layers(boxes, scores, batch["bboxes"], batch["cls"], batch["gt_groups"])
        restored = [] if dn_meta is None else list(zip(dn_meta["dn_pos_idx"], dn_meta["dn_gt_idx"], strict=True))
        counts = boxes.new_tensor([sum(len(gt) for _, gt in pairs) for pairs in (matches[0], restored)])
        if self.training:  # a distributed run divides by what all its processes have, as one with the joint batch does
            counts = mean_over_ranks(counts)
        paired, paired_dn = counts.clamp(min=1)
        terms = self._terms(boxes, scores, batch, matches, paired, "")
        if dn_meta is None:
            zero = boxes.new_zeros(())
            return terms | {f"{name}_dn": zero for name in terms}
        matches = [restored] * len(dn_bboxes)
        return terms | self._terms(dn_bboxes.float(), dn_scores.float(), batch, matches, paired_dn, "_dn")

    def _terms(
        self,
        boxes: Tensor,
        scores: Tensor,
        batch: Mapping[str, Any],
        matches: list[list[Match]],
        paired: Tensor,
        suffix: str,
    ) -> dict[str, Tensor]:
        """Terms of the last layer, and of the others summed; `paired` is the number they are divided by."""
        layer, image, query, gt = _indices(matches, boxes.device)
        predicted, wanted = boxes[layer, image, query], batch["bboxes"][gt].to(boxes.dtype)  # (L * pairs, 4)

        overlap = bbox_iou(predicted.detach(), wanted, xywh=True).squeeze(-1)
        per_pair = {
            "loss_bbox": (predicted - wanted).abs().sum(-1),
            "loss_giou": 1 - bbox_iou(predicted, wanted, xywh=True, GIoU=True).squeeze(-1),
        }
        by_layer = {
            name: boxes.new_zeros(len(matches)).index_add(0, layer, values) / paired
            for name, values in per_pair.items()
        }
        by_layer["loss_class"] = self._class_loss(scores, (layer, image, query, batch["cls"][gt]), overlap, paired)

        terms = {}
        for name, gain in (("loss_class", "class"), ("loss_bbox", "bbox"), ("loss_giou", "giou")):
            weighted = by_layer[name] * self.loss_gain[gain]
            terms[f"{name}{suffix}"] = weighted[-1]
            terms[f"{name}_aux{suffix}"] = weighted[:-1].sum()
        return terms

    def _class_loss(self, scores: Tensor, positives: tuple[Tensor, ...], overlap: Tensor, paired: Tensor) -> Tensor:
        """(L,): what each layer's logits (L, B, Q, nc) cost; `positives` index the logits of matched classes."""
        p = scores.sigmoid()
        target = torch.zeros_like(scores)
        if self.use_vfl and len(overlap):  # without any box the reference falls back to the focal loss
            target[positives] = overlap
            weight = self.alpha * p**self.gamma
            weight = weight.index_put(positives, overlap)
            loss = weight * F.binary_cross_entropy_with_logits(scores, target, reduction="none")
        elif self.use_fl:
            target[positives] = 1
            hit = target * p + (1 - target) * (1 - p)
            balance = target * self.alpha + (1 - target) * (1 - self.alpha)
            loss = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
            loss = loss * balance * (1 - hit) ** self.gamma
        else:
            target[positives] = overlap
            loss = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
            return loss.sum((1, 2, 3)) / scores.shape[2]  # the reference divides by queries here, not by boxes
        return loss.sum((1, 2, 3)) / paired


def _indices(matches: list[list[Match]], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Layer, image, query and box of every pair of every layer, each (L * pairs,)."""
    rows = [
        (torch.full_like(query, layer), torch.full_like(query, image), query, gt)
        for layer, images in enumerate(matches)
        for image, (query, gt) in enumerate(images)
    ]
    return tuple(torch.cat(column).to(device) for column in zip(*rows, strict=True))
