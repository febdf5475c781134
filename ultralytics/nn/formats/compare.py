"""Comparison of an exported model with PyTorch on the same images, query by query."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ultralytics.utils.errors import WeightsError

CONFIDENT = 0.25  # int8 is compared on objects that would be shown; boxes of other queries are arbitrary


@dataclass(frozen=True)
class Bounds:
    """Accepted difference of a precision from PyTorch, as in `Difference`.

    `swapped` is the share of queries that may have no match. One of each image may, except for int8.
    """

    boxes: float
    scores: float
    swapped: float


BOUNDS = {"float32": Bounds(1e-3, 1e-3, 0.02), "float16": Bounds(2e-2, 2e-2, 0.05), "int8": Bounds(0.1, 0.25, 0.2)}


@dataclass(frozen=True)
class Difference:
    """Difference between two outputs.

    Attributes:
        boxes: largest difference of cx, cy, w, h, in 0..1 of the image.
        scores: largest difference of a class probability.
        queries: number of matched queries in all images.
        swapped: number of queries without a match, as nearly equal scores at the end of the top-k selection swap.
    """

    boxes: float
    scores: float
    queries: int
    swapped: int

    def within(self, bounds: Bounds) -> bool:
        """Return whether boxes and scores are within the bounds."""
        return self.boxes <= bounds.boxes and self.scores <= bounds.scores

    def __str__(self) -> str:
        swapped = f"; {self.swapped} more were selected by one side only" if self.swapped else ""
        queries = f"({self.queries} queries{swapped})"
        return f"boxes differ by up to {self.boxes:.1e} of the image, scores by {self.scores:.1e} {queries}"


def compare(expected: Tensor, found: Tensor, precision: str) -> Difference:
    """Match the queries (B, queries, 4 + classes) of each image one to one, and measure the remaining difference.

    Pairs outside the bounds of the precision count as swapped if they are few. For int8 only queries with a PyTorch
    score of CONFIDENT or more count, or the best one of an image without any. Raises WeightsError for other shapes.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    bounds = BOUNDS[precision]
    if expected.shape != found.shape:
        raise WeightsError(f"the exported model gives {tuple(found.shape)}, expected {tuple(expected.shape)}")
    pairs = []
    for ours, theirs in zip(expected.double().cpu(), found.double().cpu(), strict=True):
        cost = torch.nan_to_num(torch.cdist(ours, theirs, p=1), nan=1e6, posinf=1e6)
        rows, columns = linear_sum_assignment(cost.numpy())
        gap = torch.nan_to_num((ours[rows] - theirs[columns]).abs(), nan=torch.inf)
        if precision == "int8":
            score = ours[rows, 4:].amax(1)
            gap = gap[score >= min(CONFIDENT, float(score.max()))]
        pairs.append(torch.stack((gap[:, :4].amax(1), gap[:, 4:].amax(1)), 1))
    gaps = torch.cat(pairs)  # (pairs, 2): boxes and scores
    outside = (gaps > gaps.new_tensor([bounds.boxes, bounds.scores])).any(1)
    allowed = max(bounds.swapped * len(gaps), 0 if precision == "int8" else len(expected))
    if outside.sum() > allowed or not torch.isfinite(found).all():  # too many for swaps: measure them as well
        outside = torch.zeros_like(outside)
    boxes, scores = gaps[~outside].amax(0).tolist()
    return Difference(boxes, scores, int((~outside).sum()), int(outside.sum()))
