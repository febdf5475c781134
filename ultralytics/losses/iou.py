"""Losses of a predicted and a true box: 1 - IoU with penalties for distance and shape, one function per paper.

A new loss is a function (pred, target, image_size) -> (K,) and a line in `IOU_LOSSES`; `loss_iou=NAME` selects it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ultralytics.cfg.options import Options
from ultralytics.utils.errors import OptionError, did_you_mean
from ultralytics.utils.ops import bbox_iou, xywh2xyxy, xyxy2xywh

EPS = 1e-7
Size = Tensor | tuple[float, float]  # width and height of the image, in the unit of the boxes


def iou(pred: Tensor, target: Tensor) -> Tensor:
    """Compute the plain IoU of corners: (K, 4), (K, 4) -> (K,)."""
    return bbox_iou(pred, target, xywh=False).squeeze(-1)


def _sizes(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (K, 2) each: sizes of both boxes, distance of their centers, and size of their enclosing box."""
    (center1, size1), (center2, size2) = (xyxy2xywh(boxes).split(2, -1) for boxes in (pred, target))
    hull = torch.maximum(pred[..., 2:], target[..., 2:]) - torch.minimum(pred[..., :2], target[..., :2])
    return size1, size2, center1 - center2, hull


def _size_cost(size1: Tensor, size2: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Compute the shape cost of SIoU, sum of (1 - exp(-|difference| / larger side))^4: (K, 2), (K, 2) -> (K,)."""
    difference = weight * (size1 - size2).abs() / (torch.maximum(size1, size2) + EPS)
    return ((1 - (-difference).exp()) ** 4).sum(-1)


def giou_loss(pred: Tensor, target: Tensor, image_size: Size) -> Tensor:
    """Compute 1 - generalized IoU (https://arxiv.org/abs/1902.09630): empty share of the enclosing box."""
    return 1 - bbox_iou(pred, target, xywh=False, GIoU=True).squeeze(-1)


def diou_loss(pred: Tensor, target: Tensor, image_size: Size) -> Tensor:
    """Compute 1 - distance IoU (https://arxiv.org/abs/1911.08287): distance of the centers."""
    return 1 - bbox_iou(pred, target, xywh=False, DIoU=True).squeeze(-1)


def ciou_loss(pred: Tensor, target: Tensor, image_size: Size) -> Tensor:
    """Compute 1 - complete IoU (https://arxiv.org/abs/1911.08287): distance of the centers, aspect ratio."""
    return 1 - bbox_iou(pred, target, xywh=False, CIoU=True).squeeze(-1)


def eiou_loss(pred: Tensor, target: Tensor, image_size: Size) -> Tensor:
    """Compute 1 - efficient IoU (https://arxiv.org/abs/2101.08158): distance of centers, widths and heights."""
    size1, size2, between, hull = _sizes(pred, target)
    distance = between.square().sum(-1) / (hull.square().sum(-1) + EPS)
    return 1 - iou(pred, target) + distance + ((size1 - size2).square() / (hull.square() + EPS)).sum(-1)


def siou_loss(pred: Tensor, target: Tensor, image_size: Size) -> Tensor:
    """Compute the SIoU loss (https://arxiv.org/abs/2205.12740): angle and distance of the centers, shape."""
    size1, size2, between, hull = _sizes(pred, target)
    # angle cost: sin(2 * angle) of the line between the centers, 0 along an axis and 1 on a diagonal
    angle = 2 * between.abs().prod(-1) / (between.square().sum(-1) + EPS)
    rho = (between / (hull + EPS)).square()
    distance = (1 - ((angle - 2).unsqueeze(-1) * rho).exp()).sum(-1)
    return 1 - iou(pred, target) + (distance + _size_cost(size1, size2)) / 2


def mpdiou_loss(pred: Tensor, target: Tensor, image_size: Size) -> Tensor:
    """Compute 1 - MPDIoU (https://arxiv.org/abs/2307.07662): distances of two corners, relative to the image."""
    width, height = image_size
    return 1 - iou(pred, target) + (pred - target).square().sum(-1) / (width**2 + height**2)


def shape_iou_loss(pred: Tensor, target: Tensor, image_size: Size, scale: float = 0.0) -> Tensor:
    """Compute 1 - Shape-IoU (https://arxiv.org/abs/2312.17663): distance and size, weighted by the true shape.

    `scale` is the exponent of the sides in the weights, 0 as in the paper's implementation: all weights are then 1.
    """
    size1, size2, between, hull = _sizes(pred, target)
    sides = size2.clamp(min=EPS) ** scale
    weight = 2 * sides / sides.sum(-1, keepdim=True)  # (K, 2), of width and height
    across = weight.flip(-1)  # x is weighted by the height, y by the width
    distance = (across * between.square()).sum(-1) / (hull.square().sum(-1) + EPS)
    return 1 - iou(pred, target) + distance + _size_cost(size1, size2, across) / 2


def wiou_loss(pred: Tensor, target: Tensor, image_size: Size) -> Tensor:
    """Compute Wise-IoU v1 (https://arxiv.org/abs/2301.10051): 1 - IoU, weighted by the distance of the centers.

    No gradient flows through the enclosing box. `IoULoss` multiplies the focusing factor of v3.
    """
    _, _, between, hull = _sizes(pred, target)
    attention = between.square().sum(-1) / (hull.square().sum(-1) + EPS).detach()
    return attention.exp() * (1 - iou(pred, target))


def nwd_loss(pred: Tensor, target: Tensor, image_size: Size, constant: float = 12.8 / 800) -> Tensor:
    """Compute 1 - normalized Wasserstein distance (https://arxiv.org/abs/2110.13389), for tiny objects.

    `constant` is the average size of an object: that of AI-TOD, 12.8 pixels in images of 800, relative to the image.
    """
    size1, size2, between, _ = _sizes(pred, target)
    width, height = image_size
    squared = between.square().sum(-1) + (size1 - size2).square().sum(-1) / 4
    distance = (squared / (width * height) + EPS**2).sqrt()  # the square root has no gradient at 0
    return 1 - (-distance / constant).exp()


IOU_LOSSES: dict[str, Callable[[Tensor, Tensor, Size], Tensor]] = {
    "giou": giou_loss,
    "diou": diou_loss,
    "ciou": ciou_loss,
    "eiou": eiou_loss,
    "siou": siou_loss,
    "mpdiou": mpdiou_loss,
    "shape": shape_iou_loss,
    "wiou": wiou_loss,
    "nwd": nwd_loss,
}


def check_iou_options(kind: str, inner: float | None = None, focaler: Sequence[float] | None = None) -> None:
    """Raise OptionError for an unknown loss, for limits of `focaler` out of order, or for modifiers of `nwd`."""
    if kind not in IOU_LOSSES:
        near = did_you_mean(kind, IOU_LOSSES)
        raise OptionError(f"loss_iou: expected one of {', '.join(IOU_LOSSES)}, got {kind!r}{near}")
    if focaler is not None and not (len(focaler) == 2 and 0 <= focaler[0] < focaler[1] <= 1):
        raise OptionError(f"focaler: expected [d, u] with 0 <= d < u <= 1, got {list(focaler)}; typically [0.0, 0.95]")
    if kind == "nwd" and (inner or focaler):
        raise OptionError("inner and focaler change the IoU, which loss_iou=nwd does not have; remove them")


def iou_loss(
    kind: str, pred: Tensor, target: Tensor, image_size: Size = (1.0, 1.0), inner: float | None = None,
    focaler: Sequence[float] | None = None,
) -> Tensor:  # fmt: skip
    """Compute the loss of pairs of boxes, x1, y1, x2, y2: (K, 4), (K, 4) -> (K,).

    Args:
        kind: key of `IOU_LOSSES`.
        pred, target: in any unit.
        image_size: width and height of the image in the same unit, read by `mpdiou` and `nwd`.
        inner: Inner-IoU (https://arxiv.org/abs/2311.02877), overlap of the boxes scaled by this ratio, such as 0.7.
        focaler: Focaler-IoU (https://arxiv.org/abs/2401.10525), [d, u]: the IoU from d to u is stretched to 0..1.

    Examples:
        >>> boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5]]), torch.tensor([[0.1, 0.1, 0.5, 0.3]])
        >>> iou_loss("giou", *boxes), iou_loss("giou", *boxes, focaler=[0.0, 0.95])
        (tensor([0.5000]), tensor([0.4737]))
    """
    check_iou_options(kind, inner, focaler)
    loss = IOU_LOSSES[kind](pred, target, image_size)
    if inner is None and focaler is None:
        return loss
    plain = changed = iou(pred, target)
    if inner is not None:
        scale = pred.new_tensor((1, 1, inner, inner))
        changed = iou(*(xywh2xyxy(xyxy2xywh(boxes) * scale) for boxes in (pred, target)))
    if focaler is not None:
        low, high = focaler
        changed = ((changed - low) / (high - low)).clamp(0, 1)
    return loss + plain - changed


class OutlierFocus(nn.Module):
    """Focusing factor of Wise-IoU v3 (https://arxiv.org/abs/2301.10051), from the running mean of the loss.

    A pair whose loss is far above the mean is an outlier, one far below is learned already; both weigh less.
    The running mean is part of the state of the training network, so that a resumed run continues with it.

    Args:
        alpha, delta: the factor is beta / (delta * alpha^(beta - delta)), beta the loss relative to the mean.
        steps: the mean follows the last so many updates; before that it is the mean of all.
    """

    training_only = True  # not part of the averaged and saved weights
    mean: Tensor
    updates: Tensor

    def __init__(self, alpha: float = 1.9, delta: float = 3.0, steps: int = 10_000):
        super().__init__()
        self.alpha, self.delta, self.steps = alpha, delta, steps
        self.register_buffer("mean", torch.ones(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, loss: Tensor) -> Tensor:
        """Return the factors of the losses 1 - IoU, (K,) -> (K,), and update the mean in training."""
        if self.training and len(loss):
            self.updates += 1
            self.mean.lerp_(loss.mean().to(self.mean), 1 / self.updates.clamp(max=self.steps))
        beta = loss / self.mean.to(loss.dtype).clamp(min=EPS)
        return beta / (self.delta * self.alpha ** (beta - self.delta))


class IoULoss(nn.Module):
    """Loss of pairs of boxes as the options `loss_iou`, `inner` and `focaler` define it; see `iou_loss`."""

    def __init__(self, kind: str = "giou", inner: float | None = None, focaler: Sequence[float] | None = None):
        super().__init__()
        check_iou_options(kind, inner, focaler)
        self.kind, self.inner, self.focaler = kind, inner, focaler
        if kind == "wiou":
            self.focus = OutlierFocus()

    @classmethod
    def from_options(cls, options: Options, default: str) -> IoULoss:
        """Build the loss of `options`; `default` is that of the family, where `loss_iou` is null."""
        return cls(options.loss_iou or default, options.inner, options.focaler)

    def forward(self, pred: Tensor, target: Tensor, image_size: Size = (1.0, 1.0)) -> Tensor:
        """Compute the loss: (K, 4), (K, 4) corners -> (K,). Without running mean, `wiou` is Wise-IoU v1."""
        loss = iou_loss(self.kind, pred, target, image_size, self.inner, self.focaler)
        if hasattr(self, "focus"):
            loss = loss * self.focus(1 - iou(pred.detach(), target))
        return loss
