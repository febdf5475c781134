"""Images of a data set as the network sees them, for int8's ranges of activations and for comparing outputs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ultralytics.data.images import read_image, stretch
from ultralytics.data.synthetic import draw_image
from ultralytics.data.utils import list_images, load_dataset_config
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError

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
