"""Whether an exported model gives what PyTorch gives for the same images, query by query."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.data.dataset_yaml import list_images, load_dataset_config
from ultralytics.data.images import read_image, stretch
from ultralytics.data.synthetic import draw_image
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, WeightsError


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Without torch's warnings on tracing, and without gradients."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", module="torch.onnx")
        yield


@contextmanager
def only_errors(logger: str | None = None) -> Iterator[None]:
    """A logger, the root by default, lets nothing but errors through."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


class Traced(nn.Module):
    """Images (B, 3, H, W), float32 RGB in 0..1 -> (B, queries, 4 + classes), float32.

    With `half` all layers but the head compute in float16: the head's boxes and feed-forward networks overflow there.
    """

    def __init__(self, network: nn.Module, *, half: bool = False) -> None:
        super().__init__()
        self.network, self.half_type = copy.deepcopy(network).eval(), half
        head = self.network.model[-1]
        head.export = True
        if half:
            self.network.half()
            head.float()
            head.register_forward_pre_hook(lambda _, inputs: ([level.float() for level in inputs[0]], *inputs[1:]))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.half() if self.half_type else images).float()


DRAWN_SIZE = 192  # pixels, before they are stretched
COUNT = 128  # images; the ranges hardly change with more
FEW = 16


def calibration_images(data: str, split: str, size: tuple[int, int], batch: int = 1) -> Tensor:
    """(N, 3, H, W) images for int8, N a multiple of the batch.

    Raises:
        DataError: the split has not a single image that can be read, or fewer than one batch.
    """
    images = network_images(data, split, size, COUNT)
    whole = len(images) // batch * batch
    if not whole:
        raise DataError(f"{data}, {split}: {len(images)} images to calibrate int8 with, fewer than batch={batch}.")
    if whole < FEW:
        LOGGER.warning(f"{data}, {split}: int8 is calibrated on {whole} images; a hundred or more give better ranges")
    return images[:whole]


def network_images(data: str, split: str, size: tuple[int, int], count: int, *, fetch: bool = True) -> Tensor:
    """(N, 3, H, W) RGB in 0..1: up to `count` images of a split, evenly picked; unreadable ones are told and skipped.

    `fetch` is whether a data set that is not there may be downloaded.

    Raises:
        DataError: the data set cannot be found, or none of its images can be read.
    """
    config = load_dataset_config(data, (split,), fetch=fetch)
    files = list_images(config.splits[split], config.root)
    picked = [files[i * len(files) // count] for i in range(count)] if len(files) > count else files
    images: list[np.ndarray] = []
    for file in picked:
        try:
            images.append(stretch(read_image(file), size))
        except DataError as error:
            LOGGER.warning(f"skipped: {error}")
    if not images:
        raise DataError(f"{data}, {split}: {len(files)} image files, none of which can be read.")
    return _stacked(images)


def drawn_images(count: int, size: tuple[int, int]) -> Tensor:
    """(count, 3, H, W) images of drawn shapes, RGB in 0..1, where there is no data set; always the same."""
    drawn = (draw_image(np.random.default_rng((0, i)), DRAWN_SIZE)[0] for i in range(count))
    return _stacked([stretch(image, size) for image in drawn])


def _stacked(images: list[np.ndarray]) -> Tensor:
    rgb = np.stack(images)[..., ::-1].transpose(0, 3, 1, 2)  # (N, H, W, 3) BGR -> (N, 3, H, W) RGB
    return torch.from_numpy(np.ascontiguousarray(rgb)).float() / 255


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
