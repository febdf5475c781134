"""Classification losses that take the overlap of the predicted box into account."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ultralytics.utils.errors import OptionError, did_you_mean

Index = tuple[Tensor, ...]  # indexes the logits of the matched predictions at their true class, each (K,)


def varifocal_loss(logits: Tensor, positives: Index, quality: Tensor, alpha: float, gamma: float) -> Tensor:
    """Varifocal loss (https://arxiv.org/abs/2008.13367): positives weigh q, negatives alpha * p^gamma."""
    target = torch.zeros_like(logits).index_put(positives, quality)
    weight = (alpha * logits.sigmoid() ** gamma).index_put(positives, quality)
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def matchability_aware_loss(logits: Tensor, positives: Index, quality: Tensor, alpha: float, gamma: float) -> Tensor:
    """Matchability-aware loss of DEIM (https://arxiv.org/abs/2412.04234): target q^gamma, negatives weigh p^gamma.

    Unlike in varifocal loss, matches with low IoU have full weight. As in DEIM's training, no gradient flows
    through the weight.
    """
    target = torch.zeros_like(logits).index_put(positives, quality.to(logits.dtype) ** gamma)
    weight = (logits.detach().sigmoid() ** gamma).index_put(positives, torch.ones_like(quality, dtype=logits.dtype))
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def focal_loss(logits: Tensor, positives: Index, quality: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss (https://arxiv.org/abs/1708.02002), balanced by alpha.

    Targets between 0 and 1 give quality focal loss (https://arxiv.org/abs/2006.04388).
    """
    target = torch.zeros_like(logits).index_put(positives, quality)
    balance = target * alpha + (1 - target) * (1 - alpha)
    weight = balance * (target - logits.sigmoid()).abs() ** gamma
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def bce_loss(logits: Tensor, positives: Index, quality: Tensor, alpha: float, gamma: float) -> Tensor:
    """Binary cross-entropy with the overlap as target."""
    target = torch.zeros_like(logits).index_put(positives, quality)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


# A new loss is a function above and a line below: `loss_class=NAME` selects it. Each takes logits (..., nc), the index
# of the K positives and their quality (K,) in 0..1, and returns the loss of every logit, in the shape of `logits`.
CLASS_LOSSES: dict[str, Callable[[Tensor, Index, Tensor, float, float], Tensor]] = {
    "vfl": varifocal_loss,
    "mal": matchability_aware_loss,
    "focal": focal_loss,
    "bce": bce_loss,
}


def class_weights(counts: Tensor, power: float) -> Tensor:
    """Return a weight for each class, counts^-power with a mean of 1 over the classes with boxes; 1 for the others."""
    weights, found = counts.float() ** -power, counts > 0
    return torch.where(found, weights / weights[found].mean(), 1.0)


def check_class_loss(name: str) -> None:
    """Raise OptionError for an unknown loss."""
    if name not in CLASS_LOSSES:
        near = did_you_mean(name, CLASS_LOSSES)
        raise OptionError(f"loss_class: expected {', '.join(CLASS_LOSSES)}, got {name!r}{near}")
