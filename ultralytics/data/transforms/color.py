"""Color transforms: HSV jitter, and the photometric distortion of SSD (Liu et al., https://arxiv.org/abs/1512.02325)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ultralytics.data.transforms.sample import Sample, takes_labels

LEVELS = np.arange(256, dtype=np.float32)
HUES = 180  # OpenCV stores hue as 0..179
BRIGHTNESS = (0.875, 1.125)
CONTRAST = SATURATION = (0.5, 1.5)
HUE = (-0.05, 0.05)  # fraction of the hue circle
LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R 601-2 weights of B, G, R


@dataclass(frozen=True)
class RandomHSV:
    """Shift the hue by up to ± `hgain` of the circle; scale saturation and value by factors in 1 ± their gains."""

    hgain: float = 0.5
    sgain: float = 0.5
    vgain: float = 0.5

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not (self.hgain or self.sgain or self.vgain):
            return sample
        shift, *factors = rng.uniform(-1, 1, 3) * (self.hgain * HUES, self.sgain, self.vgain)
        table = np.empty((256, 1, 3), np.uint8)  # one lookup table per channel
        table[:, 0, 0] = (LEVELS + shift) % HUES
        for channel, factor in enumerate(factors, 1):
            table[:, 0, channel] = np.minimum(LEVELS * (1 + factor), 255)
        hsv = cv2.LUT(cv2.cvtColor(sample.image, cv2.COLOR_BGR2HSV), table)
        return replace(sample, image=cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))


@dataclass(frozen=True)
class RandomPhotometricDistort:
    """Change each of brightness, contrast, saturation, hue and channel order with probability p.

    Order and ranges are those of torchvision's transform of this name, as in the official RT-DETR configuration.
    """

    p: float = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        image = sample.image
        for adjust, strength in self.draw(rng):
            image = adjust(image, strength)
        return replace(sample, image=image)

    def draw(self, rng: np.random.Generator) -> list[tuple[Callable, float | list[int]]]:
        """Return random adjustments in order; the number of random numbers drawn is always the same."""
        used = rng.random(5) < self.p
        strengths = rng.uniform(*np.transpose([BRIGHTNESS, CONTRAST, SATURATION, HUE])).tolist()
        contrast_first, channels = rng.random() < 0.5, rng.permutation(3).tolist()
        adjustments = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue, permute_channels)
        steps = list(zip(adjustments, [*strengths, channels], strict=True))
        order = (0, 1, 2, 3, 4) if contrast_first else (0, 2, 3, 1, 4)
        return [steps[i] for i in order if used[i]]


def adjust_brightness(image: np.ndarray, factor: float, offset: float = 0.0) -> np.ndarray:
    """Return factor * image + offset of a uint8 image, clipped to 0..255."""
    return cv2.LUT(image, np.clip(LEVELS * factor + offset, 0, 255).astype(np.uint8))


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Move every level away from (factor > 1) or towards the mean luma of the image."""
    mean = float(np.dot(cv2.mean(image)[:3], LUMA))
    return adjust_brightness(image, factor, (1 - factor) * mean)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Move every pixel away from (factor > 1) or towards its own luma."""
    return cv2.transform(image, factor * np.eye(3, dtype=np.float32) + (1 - factor) * np.tile(LUMA, (3, 1)))


def adjust_hue(image: np.ndarray, fraction: float) -> np.ndarray:
    """Shift the hue by a fraction of the circle; OpenCV's full range stores it as 0..255."""
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL))
    shifted = hue + np.uint8(round(fraction * 256) % 256)  # uint8 wraps around, like the circle
    return cv2.cvtColor(cv2.merge([shifted, saturation, value]), cv2.COLOR_HSV2BGR_FULL)


def permute_channels(image: np.ndarray, channels: list[int]) -> np.ndarray:
    planes = cv2.split(image)
    return cv2.merge([planes[channel] for channel in channels])
