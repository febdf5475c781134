"""Loss of RT-DETR (https://arxiv.org/abs/2304.08069): classes by varifocal loss, boxes by L1 and GIoU.

A new term is a function of `MatchedPredictions` and a line in `LOSS_MAP`, which sets its weight in the sum ("gain")
and its column in results.csv. The auxiliary layers, the denoising queries and the one-to-many branch then use it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ultralytics.cfg.options import Options
from ultralytics.losses.assigner import DensePrediction, TaskAlignedAssigner, assign_dense
from ultralytics.losses.classification import CLASS_LOSSES, check_class_loss
from ultralytics.losses.iou import IoULoss
from ultralytics.losses.matcher import HungarianMatcher, Match
from ultralytics.utils.dist import mean_over_ranks, world_size
from ultralytics.utils.ops import bbox_iou, xywh2xyxy, xyxy2xywh
from ultralytics.utils.overrides import Overridable, accepted


@dataclass(frozen=True)
class MatchedPredictions:
    """Predictions of L layers and the boxes they are matched to, K pairs of all layers together."""

    scores: Tensor  # (L, B, Q, nc), logits of all queries
    index: tuple[Tensor, Tensor, Tensor, Tensor]  # layer, image, query, class of each pair, (K,); indexes `scores`
    boxes: Tensor  # (K, 4), cx, cy, w, h in 0..1
    targets: Tensor  # (K, 4), the same of the true boxes
    quality: Tensor  # (K,), target of the class loss in 0..1, the overlap by default
    class_loss_name: str  # key of `CLASS_LOSSES`
    normalizer: float | Tensor  # number of pairs per layer, at least 1
    weight: Tensor | float = 1.0  # (K,), of the pairs in the box terms

    def sum_layers(self, values: Tensor) -> Tensor:
        """Sum the weighted values of the pairs by layer and normalize: (K,) -> (L,)."""
        zeros = values.new_zeros(len(self.scores))
        return zeros.index_add(0, self.index[0], values * self.weight) / self.normalizer


def giou_loss(criterion: RTDETRDetectionLoss, matched: MatchedPredictions) -> Tensor:
    """Compute the IoU loss of the option `loss_iou`, 1 - generalized IoU by default: (L,)."""
    return matched.sum_layers(criterion.iou(xywh2xyxy(matched.boxes), xywh2xyxy(matched.targets)))


def class_loss(criterion: RTDETRDetectionLoss, matched: MatchedPredictions) -> Tensor:
    """Compute the classification loss over all logits: (L,)."""
    function = CLASS_LOSSES[matched.class_loss_name]
    loss = function(matched.scores, matched.index, matched.quality, criterion.alpha, criterion.gamma).sum((1, 2, 3))
    # as in the reference implementation, bce is divided by the queries
    return loss / (matched.scores.shape[2] if matched.class_loss_name == "bce" else matched.normalizer)


def l1_loss(criterion: RTDETRDetectionLoss, matched: MatchedPredictions) -> Tensor:
    """Compute the L1 distance of cx, cy, w, h: (L,)."""
    return matched.sum_layers((matched.boxes - matched.targets).abs().sum(-1))


class LossTerm(NamedTuple):
    """A line of `LOSS_MAP`."""

    function: Callable[[RTDETRDetectionLoss, MatchedPredictions], Tensor]
    gain: float  # default weight of the term
    logged: str  # name in the logs
    option: str | None = None  # training option that replaces the gain


LOSS_MAP = {
    "giou": LossTerm(giou_loss, gain=2.0, logged="giou_loss", option="loss_giou"),
    "class": LossTerm(class_loss, gain=1.0, logged="cls_loss", option="loss_cls"),
    "bbox": LossTerm(l1_loss, gain=5.0, logged="l1_loss", option="loss_bbox"),
}


COST_GAIN = {"class": 2, "bbox": 5, "giou": 2}  # of the matching


class RTDETRDetectionLoss(Overridable, nn.Module):
    """Set loss of all decoder layers, the encoder's query selection and the denoising queries.

    Every term is a sum divided by the number of matched boxes, at least 1. Two exceptions: `bce` is divided by the
    number of queries, and the one-to-many branch by the sum of its soft targets, at least 1. The encoder and all
    decoder layers but the last are auxiliary: matched and weighted in the same way, and summed in the `_aux` terms.

    Args:
        nc: number of classes.
        loss_gain: weights of the terms, keys as in `loss_map`; the map's gains by default.
        use_vfl, use_fl: varifocal loss, as in RT-DETR; otherwise focal loss, or BCE without `use_fl`.
        alpha, gamma: parameters of the classification loss.
        aux_loss: whether there are auxiliary terms.
        use_uni_match, uni_match_ind: match auxiliary layers as that of this number; the encoder is 0.
        matcher: matches queries and boxes; by default with the costs `COST_GAIN`.
        loss_class: key of `CLASS_LOSSES`; overrides `use_vfl` and `use_fl`.
        one_to_many: gain of the one-to-many branch, on top of the gains of its terms.
        iou: loss of the boxes' overlap, generalized IoU by default.

    Examples:
        >>> loss = RTDETRDetectionLoss(nc=2, use_vfl=True)
        >>> boxes = torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.4, 0.4]]).expand(2, 1, 2, 4)  # (L, B, Q, 4)
        >>> batch = {"cls": torch.tensor([1]), "bboxes": boxes[0, 0, 1:], "gt_groups": [1]}
        >>> terms = loss((boxes, torch.zeros(2, 1, 2, 2)), batch)
        >>> round(terms["loss_class"].item(), 2), terms["loss_bbox"].item()
        (0.88, 0.0)
    """

    loss_map: Mapping[str, LossTerm] = LOSS_MAP
    sums_images = False

    def __init__(
        self, nc: int = 80, loss_gain: Mapping[str, float] | None = None, aux_loss: bool = True, use_fl: bool = True,
        use_vfl: bool = False, use_uni_match: bool = False, uni_match_ind: int = 0, gamma: float = 1.5,
        alpha: float = 0.25, *, matcher: HungarianMatcher | None = None, loss_class: str | None = None,
        one_to_many: float = 0.0, iou: IoULoss | None = None,
    ):  # fmt: skip
        super().__init__()
        self.loss_class = loss_class or ("vfl" if use_vfl else "focal" if use_fl else "bce")
        check_class_loss(self.loss_class)
        self.nc, self.gamma, self.alpha, self.one_to_many = nc, gamma, alpha, one_to_many
        self.loss_gain = {name: term.gain for name, term in self.loss_map.items()} | dict(loss_gain or {})
        self.aux_loss, self.uni_match = aux_loss, uni_match_ind if use_uni_match else None
        self.matcher, self.iou = matcher or HungarianMatcher(COST_GAIN), iou or IoULoss("giou")
        self.assigner = TaskAlignedAssigner(num_classes=nc)

    @classmethod
    def from_options(cls, options: Options, nc: int) -> RTDETRDetectionLoss:
        """Build the loss with the gains and the classification loss of `options`."""
        gains = {name: getattr(options, term.option) for name, term in cls.loss_map.items() if term.option}
        iou = IoULoss.from_options(options, default="giou")
        given = {"loss_gain": gains, "loss_class": options.loss_class, "one_to_many": options.one_to_many, "iou": iou}
        return cls(nc=nc, **accepted(cls, use_vfl=True, **given))

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Columns of `loss_items` in the logs: giou_loss, cls_loss, l1_loss."""
        return tuple(term.logged for term in self.loss_map.values())

    def loss_items(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the terms of the last decoder layer, detached, in the order of `loss_names`."""
        return torch.stack([terms[f"loss_{name}"].detach() for name in self.loss_map])

    def __call__(self, preds: tuple[Tensor, ...], batch: Mapping[str, Any], *args: Any, **kwargs: Any) -> dict:
        """Compute `forward`; `preds` may also be what `RTDETRDecoder` returns, with all that follows."""
        if len(preds) > 2:
            boxes, scores, enc_boxes, enc_scores, meta, *dense = preds
            dn_boxes = dn_scores = None
            if meta is not None:  # denoising queries are first
                (dn_boxes, boxes), (dn_scores, scores) = (x.split(meta["dn_num_split"], 2) for x in (boxes, scores))
            preds = (
                torch.cat((enc_boxes[None], boxes)),
                torch.cat((enc_scores[None], scores)),
            )  # (1 + layers, B, Q, ...)
            args = dn_boxes, dn_scores, meta, *dense
        return super().__call__(preds, batch, *args, **kwargs)

    def forward(
        self, preds: tuple[Tensor, ...], batch: Mapping[str, Any], dn_bboxes: Tensor | None = None,
        dn_scores: Tensor | None = None, dn_meta: Mapping[str, Any] | None = None, dense: DensePrediction | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Compute all terms, multiplied by their gains.

        Args:
            preds: boxes (L, B, Q, 4) as cx, cy, w, h in 0..1 and logits (L, B, Q, nc); the encoder first.
            batch: cls (N,) or (N, 1), bboxes (N, 4), gt_groups: boxes per image.
            dn_bboxes, dn_scores: the same for the denoising queries, without the encoder.
            dn_meta: `dn_pos_idx` and `dn_gt_idx` of `get_cdn_group`.
            dense: predictions of the one-to-many branch, if there is one.
        """
        batch = {**batch, "cls": batch["cls"].long().view(-1)}

        # matching; denoising queries are matched by construction
        boxes, scores = preds[0].float(), preds[1].float()
        matches = self.matcher.match_layers(boxes, scores, batch["bboxes"], batch["cls"], batch["gt_groups"])
        if self.uni_match is not None:
            matches = [matches[self.uni_match]] * (len(matches) - 1) + matches[-1:]
        dn_match = [] if dn_meta is None else list(zip(dn_meta["dn_pos_idx"], dn_meta["dn_gt_idx"], strict=True))

        # number of pairs per layer: the mean over ranks, so that the gradient is that of the joint batch
        counts = [sum(len(gt) for _, gt in pairs) for pairs in (matches[0], dn_match)]
        if self.training and world_size() > 1:
            counts = mean_over_ranks(boxes.new_tensor(counts)).tolist()

        terms = self._layer_terms("", boxes, scores, batch, matches, counts[0])
        if dn_meta is None:
            terms |= {f"{name}_dn": boxes.new_zeros(()) for name in terms}
        else:
            dn_matches = [dn_match] * len(dn_bboxes)
            terms |= self._layer_terms("_dn", dn_bboxes.float(), dn_scores.float(), batch, dn_matches, counts[1])
        return terms if dense is None else terms | self.dense_terms(dense, batch)

    def dense_terms(self, dense: DensePrediction, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Compute the terms of the one-to-many branch, weighted by the soft targets and divided by their sum."""
        (image, position, label), targets, soft = assign_dense(self.assigner, dense, batch)
        matched = MatchedPredictions(
            scores=dense.scores[None],  # (1, B, S, nc)
            index=(torch.zeros_like(image), image, position, label),
            boxes=xyxy2xywh(dense.boxes[image, position]),
            targets=xyxy2xywh(targets),
            quality=soft,
            class_loss_name="focal" if self.loss_class == "bce" else self.loss_class,
            normalizer=mean_over_ranks(soft.sum()).clamp(min=1),
            weight=soft,
        )
        return {
            f"loss_{name}_dense": self.one_to_many * self.loss_gain[name] * term.function(self, matched)[0]
            for name, term in self.loss_map.items()
        }

    def _layer_terms(
        self, suffix: str, boxes: Tensor, scores: Tensor, batch: Mapping[str, Any], matches: list[list[Match]],
        count: float,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Compute each term of the last layer, and its sum over the others; `count`: pairs per layer."""
        # matched predictions of all layers
        rows = [
            (torch.full_like(query, layer), torch.full_like(query, image), query, gt)
            for layer, images in enumerate(matches)
            for image, (query, gt) in enumerate(images)
        ]
        layer, image, query, gt = (torch.cat(column).to(boxes.device) for column in zip(*rows, strict=True))
        predicted, targets = boxes[layer, image, query], batch["bboxes"][gt].to(boxes.dtype)  # (K, 4)
        # as in the reference implementation, a batch without boxes uses the focal loss
        kind = "focal" if self.loss_class == "vfl" and not count else self.loss_class
        overlap = bbox_iou(predicted.detach(), targets, xywh=True).squeeze(-1)
        quality = torch.ones_like(overlap) if kind == "focal" else overlap
        index = layer, image, query, batch["cls"][gt]
        matched = MatchedPredictions(scores, index, predicted, targets, quality, kind, normalizer=max(count, 1))

        terms = {}
        for name, term in self.loss_map.items():
            weighted = self.loss_gain[name] * term.function(self, matched)  # (L,)
            terms[f"loss_{name}{suffix}"] = weighted[-1]
            if self.aux_loss:
                terms[f"loss_{name}_aux{suffix}"] = weighted[:-1].sum()
        return terms
