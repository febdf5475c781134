"""Training at several sizes: a new one each batch, as the official RT-DETR does it."""

from __future__ import annotations

import math
import random

import torch.nn.functional as F
from torch import Tensor

STRIDE = 32  # image sides are multiples of it
SMALLEST, LARGEST = 0.75, 1.25  # of imgsz: 480 to 800 for 640, as in the official code


def training_sides(imgsz: int) -> range:
    """Sides of the images with `multi_scale`: multiples of STRIDE around `imgsz`, in pixels."""
    steps = imgsz // STRIDE
    return range(math.ceil(steps * SMALLEST) * STRIDE, math.floor(steps * LARGEST) * STRIDE + 1, STRIDE)


def at_random_size(images: Tensor, imgsz: int, *place: int) -> Tensor:
    """(B, 3, H, W) resized to (B, 3, side, side).

    The side is a function of the place in the run (seed, epoch, batch), so that a resumed run draws the same ones.
    """
    side = random.Random("/".join(map(str, place))).choice(training_sides(imgsz))
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
