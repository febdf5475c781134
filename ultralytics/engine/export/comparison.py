"""Whether an exported model gives what PyTorch gives for the same images, query by query."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ultralytics.utils.errors import WeightsError

CONFIDENT = 0.25  # int8 is judged by what would be shown: what is not an object has no box to be right about


@dataclass(frozen=True)
class Bounds:
    """What an export of some precision may differ from PyTorch.

    Attributes:
        boxes: largest difference of cx, cy, w, h, in 0..1 of the image.
        scores: largest difference of a class probability.
        swapped: share of the queries that may have no partner within these. One of each image may, but for int8.
    """

    boxes: float
    scores: float
    swapped: float


BOUNDS = {"float32": Bounds(1e-3, 1e-3, 0.02), "float16": Bounds(2e-2, 2e-2, 0.05), "int8": Bounds(0.1, 0.25, 0.2)}


@dataclass(frozen=True)
class Difference:
    """How far two outputs are apart.

    Attributes:
        boxes: largest difference of cx, cy, w, h, in 0..1 of the image.
        scores: largest difference of a class probability.
        queries: how many were compared, in all images.
        swapped: how many more found no partner within the bounds: where scores are nearly equal, at the end of the
            selection of queries, one side may have picked another position.
    """

    boxes: float
    scores: float
    queries: int
    swapped: int

    def within(self, bounds: Bounds) -> bool:
        """Whether boxes and scores are within the bounds; few queries were swapped, or they would count."""
        return self.boxes <= bounds.boxes and self.scores <= bounds.scores

    def __str__(self) -> str:
        text = (
            f"boxes differ by up to {self.boxes:.1e} of the image, scores by {self.scores:.1e} ({self.queries} queries"
        )
        return text + (f"; {self.swapped} more were picked by one of both only)" if self.swapped else ")")


def compare(expected: Tensor, found: Tensor, precision: str) -> Difference:
    """Match the queries of each image one to one, by boxes and scores, and measure what is left between them.

    Args:
        expected: (B, queries, 4 + classes).
        found: the same of the exported model.
        precision: a key of BOUNDS. Pairs beyond these are counted as swapped while they are few. Of int8 count the
            queries that PyTorch gives a score of CONFIDENT or more, or the best of an image without any.

    Raises:
        WeightsError: the shapes differ.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    bounds = BOUNDS[precision]
    if expected.shape != found.shape:
        raise WeightsError(f"the exported model gives {tuple(found.shape)}, expected {tuple(expected.shape)}")
    pairs = []
    for here, there in zip(expected.double().cpu(), found.double().cpu(), strict=True):
        cost = torch.cdist(here[:, :4], there[:, :4], p=1) + torch.cdist(here[:, 4:], there[:, 4:], p=1)
        cost = torch.nan_to_num(cost, nan=1e6, posinf=1e6)
        rows, columns = linear_sum_assignment(cost.numpy())
        gap = torch.nan_to_num((here[rows] - there[columns]).abs(), nan=torch.inf)
        if precision == "int8":
            score = here[rows, 4:].amax(1)
            gap = gap[score >= min(CONFIDENT, float(score.max()))]
        pairs.append(torch.stack((gap[:, :4].amax(1), gap[:, 4:].amax(1)), 1))
    gaps = torch.cat(pairs)  # (pairs, 2) of boxes and scores
    beyond = (gaps > gaps.new_tensor([bounds.boxes, bounds.scores])).any(1)
    swapped = int(beyond.sum())
    allowed = max(bounds.swapped * len(gaps), 0 if precision == "int8" else len(expected))
    if swapped > allowed or not torch.isfinite(found).all():  # not a matter of the selection's end: these count
        beyond, swapped = torch.zeros_like(beyond), 0
    boxes, scores = gaps[~beyond].amax(0).tolist()
    return Difference(boxes, scores, int((~beyond).sum()), swapped)
