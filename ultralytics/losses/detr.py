"""Loss of RT-DETR (https://arxiv.org/abs/2304.08069): classes by an overlap-aware loss, boxes by L1 and GIoU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.losses.assigner import TaskAlignedAssigner, one_to_many_terms
from ultralytics.losses.classification import CLASS_LOSSES, class_loss
from ultralytics.losses.matcher import HungarianMatcher, Match
from ultralytics.nn.modules.one_to_many import DensePrediction
from ultralytics.utils.dist import mean_over_ranks, world_size
from ultralytics.utils.errors import OptionError, did_you_mean
from ultralytics.utils.ops import bbox_iou


class RTDETRDetectionLoss(nn.Module):
    """Set loss of all decoder layers, the encoder's selection, and the denoising queries.

    Every term is a sum divided by the number of matched boxes. The decoder layers but the last, and the encoder, are
    auxiliary: matched and weighed alike, reported together.

    Args:
        nc: number of classes.
        loss_gain: weights of `class`, `bbox` and `giou`.
        use_vfl: varifocal loss (https://arxiv.org/abs/2008.13367); otherwise focal, or BCE without `use_fl`.
        alpha, gamma: of the class loss, see `class_loss`.
        matcher: how queries and boxes are paired.
        loss_class: `vfl`, `mal` (matchability-aware, https://arxiv.org/abs/2412.04234) or `focal`, in place of what
            `use_vfl` and `use_fl` say.
        one_to_many: gain of the one-to-many branch's terms, which is on top of their own gains.

    Raises:
        OptionError: no such class loss.
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
        loss_class: str | None = None,
        one_to_many: float = 0.0,
    ):
        super().__init__()
        if loss_class not in (None, *CLASS_LOSSES):
            near = did_you_mean(loss_class, CLASS_LOSSES)
            raise OptionError(f"loss_class: expected {', '.join(CLASS_LOSSES)}, got {loss_class!r}{near}")
        self.nc = nc
        self.loss_gain = dict(loss_gain or {"class": 1, "bbox": 5, "giou": 2})
        self.gamma, self.alpha = gamma, alpha
        self.loss_class = loss_class or ("vfl" if use_vfl else "focal" if use_fl else "bce")
        self.matcher = matcher or HungarianMatcher()
        self.one_to_many = one_to_many
        self.assigner = TaskAlignedAssigner(num_classes=nc)

    def forward(
        self,
        preds: tuple[Tensor, Tensor],
        batch: Mapping[str, Any],
        dn_bboxes: Tensor | None = None,
        dn_scores: Tensor | None = None,
        dn_meta: Mapping[str, Any] | None = None,
        dense: DensePrediction | None = None,
    ) -> dict[str, Tensor]:
        """All terms, after their gains.

        Args:
            preds: boxes (L, B, Q, 4) as cx, cy, w, h in 0..1 and logits (L, B, Q, nc); the encoder first.
            batch: cls (N,) long, bboxes (N, 4), gt_groups: boxes per image.
            dn_bboxes, dn_scores: the same of the denoising queries, without the encoder.
            dn_meta: `dn_pos_idx` and `dn_gt_idx` of `get_cdn_group`.
            dense: predictions of the one-to-many branch, if there is one.
        """
        boxes, scores = preds[0].float(), preds[1].float()
        matches = self.matcher.match_layers(boxes, scores, batch["bboxes"], batch["cls"], batch["gt_groups"])
        restored = [] if dn_meta is None else list(zip(dn_meta["dn_pos_idx"], dn_meta["dn_gt_idx"], strict=True))
        counts = [sum(len(gt) for _, gt in pairs) for pairs in (matches[0], restored)]
        if self.training and world_size() > 1:  # divide by the boxes of all processes, as one with the joint batch does
            counts = mean_over_ranks(boxes.new_tensor(counts)).tolist()
        paired, paired_dn = counts
        terms = self._terms(boxes, scores, batch, matches, paired, "") | self._dense_terms(dense, batch)
        denoising = [f"{name}_dn" for name in terms if not name.endswith("_dense")]
        if dn_meta is None:
            return terms | dict.fromkeys(denoising, boxes.new_zeros(()))
        matches = [restored] * len(dn_bboxes)
        return terms | self._terms(dn_bboxes.float(), dn_scores.float(), batch, matches, paired_dn, "_dn")

    def _terms(
        self,
        boxes: Tensor,
        scores: Tensor,
        batch: Mapping[str, Any],
        matches: list[list[Match]],
        paired: float,
        suffix: str,
    ) -> dict[str, Tensor]:
        """Terms of the last layer, and of the others summed; `paired`, the number of pairs, is what divides them."""
        layer, image, query, gt = _indices(matches, boxes.device)
        predicted, wanted = boxes[layer, image, query], batch["bboxes"][gt].to(boxes.dtype)  # (L * pairs, 4)

        overlap = bbox_iou(predicted.detach(), wanted, xywh=True).squeeze(-1)
        per_pair = {
            "loss_bbox": (predicted - wanted).abs().sum(-1),
            "loss_giou": 1 - bbox_iou(predicted, wanted, xywh=True, GIoU=True).squeeze(-1),
        }
        by_layer = {
            name: boxes.new_zeros(len(matches)).index_add(0, layer, values) / max(paired, 1)
            for name, values in per_pair.items()
        }
        by_layer["loss_class"] = self._class_loss(scores, (layer, image, query, batch["cls"][gt]), overlap, paired)

        terms = {}
        for name, gain in (("loss_class", "class"), ("loss_bbox", "bbox"), ("loss_giou", "giou")):
            weighted = by_layer[name] * self.loss_gain[gain]
            terms[f"{name}{suffix}"] = weighted[-1]
            terms[f"{name}_aux{suffix}"] = weighted[:-1].sum()
        return terms

    def _class_loss(self, scores: Tensor, positives: tuple[Tensor, ...], overlap: Tensor, paired: float) -> Tensor:
        """(L,): what each layer's logits (L, B, Q, nc) cost; `positives` index the logits of matched classes."""
        if self.loss_class == "bce":
            target = torch.zeros_like(scores)
            target[positives] = overlap
            loss = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
            return loss.sum((1, 2, 3)) / scores.shape[2]  # the reference divides by queries here, not by boxes
        # Without any box the reference falls back to the focal loss.
        kind = "focal" if self.loss_class == "vfl" and not paired else self.loss_class
        quality = torch.ones_like(overlap) if kind == "focal" else overlap
        return class_loss(kind, scores, positives, quality, self.alpha, self.gamma).sum((1, 2, 3)) / max(paired, 1)

    def _dense_terms(self, dense: DensePrediction | None, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Terms of the one-to-many branch."""
        if dense is None:
            return {}
        kind = "focal" if self.loss_class == "bce" else self.loss_class
        cost = partial(class_loss, kind, alpha=self.alpha, gamma=self.gamma)
        terms = one_to_many_terms(dense, batch, cost, self.assigner)
        return {f"loss_{k}_dense": self.one_to_many * self.loss_gain[k] * value for k, value in terms.items()}


def _indices(matches: list[list[Match]], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Layer, image, query and box of every pair of every layer, each (L * pairs,)."""
    rows = [
        (torch.full_like(query, layer), torch.full_like(query, image), query, gt)
        for layer, images in enumerate(matches)
        for image, (query, gt) in enumerate(images)
    ]
    return tuple(torch.cat(column).to(device) for column in zip(*rows, strict=True))
