"""Color transforms: HSV jitter, and the photometric distortion of SSD (Liu et al., https://arxiv.org/abs/1512.02325)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ultralytics.data.transforms.sample import Sample

LEVELS = np.arange(256, dtype=np.float32)
HUES = 180  # OpenCV stores hue as 0..179
BRIGHTNESS = (0.875, 1.125)
CONTRAST = SATURATION = (0.5, 1.5)
HUE = (-0.05, 0.05)  # fraction of the hue circle
LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R 601-2 weights of B, G, R


@dataclass(frozen=True)
class RandomHSV:
    """Shift the hue by up to ± `hue` of the circle; scale saturation and value by factors in 1 ± their strengths."""

    hue: float
    saturation: float
    value: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not (self.hue or self.saturation or self.value):
            return sample
        shift, *factors = rng.uniform(-1, 1, 3) * (self.hue * HUES, self.saturation, self.value)
        table = np.empty((256, 1, 3), np.uint8)  # one lookup table per channel
        table[:, 0, 0] = (LEVELS + shift) % HUES
        for channel, factor in enumerate(factors, 1):
            table[:, 0, channel] = np.minimum(LEVELS * (1 + factor), 255)
        hsv = cv2.LUT(cv2.cvtColor(sample.image, cv2.COLOR_BGR2HSV), table)
        return replace(sample, image=cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))


@dataclass(frozen=True)
class Distortion:
    """Sampled strengths of `RandomPhotometricDistort`; None leaves a property unchanged."""

    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    hue: float | None = None
    contrast_first: bool = True  # before saturation and hue, else after them
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class RandomPhotometricDistort:
    """Change each of brightness, contrast, saturation, hue and channel order with probability p.

    Order and ranges are those of torchvision's transform of this name, as in the official RT-DETR configuration.
    """

    p: float = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return replace(sample, image=distort(sample.image, self.draw(rng)))

    def draw(self, rng: np.random.Generator) -> Distortion:
        """Return random strengths; the number of random numbers drawn is always the same."""
        *on, permute = (rng.random(5) < self.p).tolist()
        drawn = rng.uniform(*np.transpose([BRIGHTNESS, CONTRAST, SATURATION, HUE])).tolist()
        contrast_first, order = bool(rng.random() < 0.5), rng.permutation(3).tolist()
        strengths = [value if use else None for value, use in zip(drawn, on, strict=True)]
        return Distortion(*strengths, contrast_first, tuple(order) if permute else None)


def distort(image: np.ndarray, change: Distortion) -> np.ndarray:
    """Return a changed copy of a uint8 (H, W, 3) BGR image."""
    if change.brightness is not None:
        image = scale_levels(image, change.brightness, 0.0)
    if change.contrast is not None and change.contrast_first:
        image = scale_contrast(image, change.contrast)
    if change.saturation is not None:  # move every pixel away from or towards its own luma
        mix = change.saturation * np.eye(3, dtype=np.float32) + (1 - change.saturation) * np.tile(LUMA, (3, 1))
        image = cv2.transform(image, mix)
    if change.hue is not None:
        image = shift_hue(image, change.hue)
    if change.contrast is not None and not change.contrast_first:
        image = scale_contrast(image, change.contrast)
    if change.channels is not None:
        planes = cv2.split(image)
        image = cv2.merge([planes[channel] for channel in change.channels])
    return image


def scale_levels(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """Return factor * image + offset, clipped to 0..255."""
    return cv2.LUT(image, np.clip(LEVELS * factor + offset, 0, 255).astype(np.uint8))


def scale_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Move every level away from (factor > 1) or towards the mean luma of the image."""
    mean = float(np.dot(cv2.mean(image)[:3], LUMA))
    return scale_levels(image, factor, (1 - factor) * mean)


def shift_hue(image: np.ndarray, fraction: float) -> np.ndarray:
    """Shift the hue by a fraction of the circle; OpenCV's full range stores it as 0..255."""
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL))
    shifted = hue + np.uint8(round(fraction * 256) % 256)  # uint8 wraps around, like the circle
    return cv2.cvtColor(cv2.merge([shifted, saturation, value]), cv2.COLOR_HSV2BGR_FULL)
