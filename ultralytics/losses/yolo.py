"""Losses of YOLO detectors: task-aligned assignment, boxes by CIoU and DFL, classes by binary cross-entropy.

`DetectionLoss` is the loss of one branch of `Detect`, `DualAssignmentLoss` that of the one-to-many and one-to-one pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.cfg.options import Options
from ultralytics.losses.assigner import TaskAlignedAssigner, pad_targets
from ultralytics.losses.iou import IoULoss
from ultralytics.utils.dist import mean_over_ranks
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.ops import make_anchors, xywh2xyxy

AUXILIARY = 0.25  # weight of an auxiliary head, as in YOLOv7 (https://arxiv.org/abs/2207.02696)
RawPredictions = Mapping[str, Any]  # boxes (B, 4 * reg_max, A), scores (B, nc, A) logits, feats: the maps


def distribution_loss(sides: Tensor, reach: Tensor) -> Tensor:
    """Compute DFL, the mean over four sides, of logits (K, 4, reg_max) and distances (K, 4) in cells: (K,)."""
    reach = reach.clamp(0, sides.shape[-1] - 1 - 0.01)
    left = reach.long()
    log_p = sides.log_softmax(-1)
    low, high = (log_p.gather(-1, i.unsqueeze(-1)).squeeze(-1) for i in (left, left + 1))
    return -(low * (left + 1 - reach) + high * (reach - left)).mean(-1)


class DetectionLoss(nn.Module):
    """Loss of one branch of `Detect` with the assignment of TOOD (https://arxiv.org/abs/2108.07755).

    Boxes are weighted by their soft targets, and all terms divided by the sum of the soft targets, at least 1.
    Distances of the sides are learned as distributions (DFL, https://arxiv.org/abs/2006.04388); with reg_max = 1, as in
    YOLO26, by their L1 distance relative to the image.

    Args:
        nc: number of classes.
        reg_max: number of bins of a distance.
        strides: pixels per cell of each map.
        box, cls, dfl: weights of the terms.
        topk, topk2: predictions per box, before and after conflicts are resolved.
        iou: loss of the boxes, CIoU by default.
        weights: of the classes (nc,) in the classification loss, see `classification.class_weights`.
    """

    sums_images = True  # the total is the sum of the terms times the number of images

    def __init__(
        self, nc: int = 80, reg_max: int = 16, strides: Sequence[float] = (8, 16, 32), box: float = 7.5,
        cls: float = 0.5, dfl: float = 1.5, topk: int = 10, topk2: int | None = None, iou: IoULoss | None = None,
        weights: Tensor | None = None,
    ):  # fmt: skip
        super().__init__()
        self.nc, self.reg_max, self.strides = nc, reg_max, tuple(float(stride) for stride in strides)
        self.gains = {"box_loss": box, "cls_loss": cls, "dfl_loss" if reg_max > 1 else "l1_loss": dfl}
        self.assigner = TaskAlignedAssigner(topk, nc, alpha=0.5, beta=6.0, stride=self.strides, topk2=topk2)
        self.iou = iou or IoULoss("ciou")
        self.register_buffer("weights", torch.ones(nc) if weights is None else weights, persistent=False)

    @classmethod
    def from_options(cls, options: Options | None, head: nn.Module, **kwargs: Any) -> DetectionLoss:
        """Build the loss of a branch of `head` with the weights and the box loss of `options`, or the defaults."""
        if options is not None:
            iou = IoULoss.from_options(options, default="ciou")
            kwargs |= {"iou": iou, "box": options.box, "cls": options.cls, "dfl": options.dfl}
        kwargs["weights"] = getattr(head, "class_weights", None)
        return cls(head.nc, getattr(head, "reg_max", 16), head.stride.tolist(), **kwargs)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Columns of `loss_items` in the logs: box_loss, cls_loss, and dfl_loss or l1_loss."""
        return tuple(self.gains)

    def loss_items(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the terms, detached, in the order of `loss_names`."""
        return torch.stack([terms[name].detach() for name in self.loss_names])

    def forward(self, preds: RawPredictions | Sequence[Tensor], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Compute the terms, multiplied by their gains.

        Args:
            preds: raw predictions of a branch, levels concatenated, the finest first; or a map of both for each level.
            batch: cls (N, 1), bboxes (N, 4) cx, cy, w, h in 0..1, batch_idx (N,).
        """
        self._check(preds)
        if not isinstance(preds, Mapping):  # maps (B, 4 * reg_max + nc, h, w), of a head of another code base
            preds, auxiliary = preds[: len(self.strides)], preds[len(self.strides) :]
            boxes, scores = torch.cat([m.flatten(2) for m in preds], 2).split((4 * self.reg_max, self.nc), 1)
            terms = self.forward({"boxes": boxes, "scores": scores, "feats": preds}, batch)
            others = self.forward(auxiliary, batch) if len(auxiliary) else {}
            return terms | {f"{name}_auxiliary": AUXILIARY * term for name, term in others.items()}
        # logits (B, nc, A), and distances of the sides from the anchor points (B, 4, reg_max, A)
        logits, distances = preds["scores"].float(), preds["boxes"].float().unflatten(1, (4, self.reg_max))
        points, strides = make_anchors(preds["feats"], self.strides)  # (A, 2) in cells, (A, 1) in pixels
        size = self.strides[0] * points.new_tensor(preds["feats"][0].shape[:1:-1])  # width, height in pixels

        # assignment in pixels
        boxes = self.decode(distances.detach(), points.T) * strides.T  # (B, 4, A)
        labels, targets, mask = self.targets(batch, len(logits), size)
        image, position, box, quality = self.assigner.match(
            logits.detach().mT, boxes.mT, points * strides, labels, targets, mask, logits=True
        )
        total = mean_over_ranks(quality.sum()) if self.training else quality.sum()

        # cross-entropy with the soft targets at the assigned logits and 0 elsewhere
        label, weights = labels[image, box, 0], self.weights.to(logits)
        positive = logits[image, label, position] * quality * weights[label]  # (K,)
        cls = F.softplus(logits).sum((0, 2)) @ weights - positive.sum()

        # boxes of the assigned predictions, in cells
        sides, point, stride = distances[image, :, :, position], points[position], strides[position]
        target = targets[image, box] / stride
        overlap = self.iou(self.decode(sides, point.T), target, (size / stride).unbind(-1))
        reach = torch.cat((point - target[:, :2], target[:, 2:] - point), -1)  # (K, 4): left, top, right, bottom
        if self.reg_max > 1:
            side = distribution_loss(sides, reach)
        else:  # L1 distance relative to the image
            side = ((sides.squeeze(-1) - reach) * (stride / size.repeat(2))).abs().mean(-1)

        values = (overlap * quality).sum(), cls, (side * quality).sum()
        return {name: gain * x / total.clamp(min=1) for (name, gain), x in zip(self.gains.items(), values, strict=True)}

    def _check(self, preds: Any) -> None:
        """Raise ModelConfigError for what a head of another code base returns, if this is not the loss for it."""
        channels = 4 * self.reg_max + self.nc
        if isinstance(preds, Mapping):
            fits, got = preds.keys() >= {"boxes", "scores", "feats"}, f"a dictionary with {', '.join(map(str, preds))}"
        else:
            got = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in preds]
            fits = all(len(s) == 4 and s[1] == channels for s in got) and len(got) >= len(self.strides)
        if not fits:
            raise ModelConfigError(
                f"the head returns {got} in training, expected a map (B, 4 * reg_max + nc = {channels}, h, w) for each "
                "stride, or boxes, scores, feats; for others, such as objectness, give the head build_criterion"
            )

    def decode(self, sides: Tensor, point: Tensor) -> Tensor:
        """Decode distances from the points (2, A) to corners, in cells: (B, 4, reg_max, A) -> (B, 4, A)."""
        if self.reg_max > 1:
            bins = torch.arange(self.reg_max, device=sides.device).view(-1, *[1] * (sides.ndim - 3))
            sides = (sides.softmax(2) * bins).sum(2)  # mean of the distribution
        else:
            sides = sides.squeeze(2)
        left, top, right, bottom = sides.unbind(1)
        x, y = point
        return torch.stack((x - left, y - top, x + right, y + bottom), 1)

    def targets(self, batch: Mapping[str, Any], images: int, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return labels (B, n, 1), corners in pixels (B, n, 4), and mask (B, n, 1) of the boxes of each image."""
        index, order = batch["batch_idx"].view(-1).to(size.device).long().sort(stable=True)
        counts = torch.bincount(index, minlength=images).tolist()
        boxes = xywh2xyxy(batch["bboxes"].to(size)[order]) * size.repeat(2)
        return pad_targets(batch["cls"].to(size.device).long().view(-1)[order], boxes, counts)


class DualAssignmentLoss(nn.Module):
    """Loss of a head with two branches: one-to-many for training, one-to-one for predictions without NMS.

    YOLOv10 (https://arxiv.org/abs/2405.14458) adds the losses of both. YOLO26 (https://docs.ultralytics.com/models/yolo26)
    shifts the weight from the one-to-many branch to the other over the epochs (`progressive`), from 0.8 to 0.1.
    """

    sums_images = True
    share: Tensor  # of the one-to-many branch in the loss of YOLO26

    def __init__(self, one2many: DetectionLoss, one2one: DetectionLoss, progressive: bool):
        super().__init__()
        self.one2many, self.one2one, self.progressive = one2many, one2one, progressive
        self.register_buffer("share", torch.tensor(0.8), persistent=False)

    @classmethod
    def from_options(cls, options: Options | None, head: nn.Module) -> DualAssignmentLoss:
        """Build the loss of YOLO26 for a head without DFL, else that of YOLOv10."""
        progressive = head.reg_max == 1
        one2one = {"topk": 7, "topk2": 1} if progressive else {"topk": 1}
        branches = (DetectionLoss.from_options(options, head, **kwargs) for kwargs in ({}, one2one))
        return cls(*branches, progressive=progressive)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Columns of `loss_items` in the logs."""
        return self.one2one.loss_names

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Set the weights of an epoch from 0 to epochs - 1."""
        self.share.fill_(0.8 - 0.7 * min(epoch / max(epochs - 1, 1), 1))

    def forward(self, preds: Mapping[str, RawPredictions], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Compute the weighted terms of both branches, preds {"one2many": ..., "one2one": ...}."""
        many, one = (self.share, 1 - self.share) if self.progressive else (1.0, 1.0)
        terms = {name: one * term for name, term in self.one2one(preds["one2one"], batch).items()}
        return terms | {f"{name}_one2many": many * x for name, x in self.one2many(preds["one2many"], batch).items()}

    def loss_items(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the terms of the one-to-one branch without its weight, detached, in the order of `loss_names`."""
        return self.one2one.loss_items(terms) / (1 - self.share if self.progressive else 1.0)
