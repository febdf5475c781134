"""What a class logit costs, given how well the box of its prediction fits: varifocal, matchability-aware and focal."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CLASS_LOSSES = ("vfl", "mal", "focal")


def class_loss(
    kind: str, logits: Tensor, positives: tuple[Tensor, ...], quality: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Cost of every logit, in the shape of `logits`.

    Args:
        kind: one of `CLASS_LOSSES`.
        logits: (..., classes).
        positives: indices into `logits` of the K that stand for an object, each once.
        quality: (K,) overlap of their boxes with the object's, or another soft target in 0..1.
        alpha, gamma: see the losses; the matchability-aware one has no alpha.
    """
    if kind == "mal":
        return matchability_aware_loss(logits, positives, quality, gamma)
    target = torch.zeros_like(logits)
    target[positives] = quality
    if kind == "focal":
        return focal_loss(logits, target, alpha, gamma)
    return varifocal_loss(logits, target, positives, alpha, gamma)


def varifocal_loss(logits: Tensor, target: Tensor, positives: tuple[Tensor, ...], alpha: float, gamma: float) -> Tensor:
    """Positives: q times the cross-entropy with q; negatives: alpha p^gamma times that with 0. arXiv 2008.13367."""
    weight = alpha * logits.sigmoid() ** gamma
    weight = weight.index_put(positives, target[positives])
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def matchability_aware_loss(logits: Tensor, positives: tuple[Tensor, ...], quality: Tensor, gamma: float) -> Tensor:
    """Positives: cross-entropy with q^gamma, which a poor box does not silence; negatives: p^gamma times that with 0.

    DEIM, https://arxiv.org/abs/2412.04234. As in its published training, the weight p^gamma is a constant for the
    gradient.
    """
    target = torch.zeros_like(logits)
    target[positives] = quality.to(logits.dtype) ** gamma
    weight = logits.detach().sigmoid() ** gamma
    weight[positives] = 1
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def focal_loss(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """Cross-entropy times |target - p|^gamma and a balance: alpha of targets, 1 - alpha of the rest.

    Targets 0 and 1 give the focal loss (https://arxiv.org/abs/1708.02002), others its form for soft targets (quality
    focal loss, https://arxiv.org/abs/2006.04388).
    """
    balance = target * alpha + (1 - target) * (1 - alpha)
    distance = (target - logits.sigmoid()).abs()
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * balance * distance**gamma
