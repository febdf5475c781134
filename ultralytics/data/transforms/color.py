"""Transforms of colour; boxes stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ultralytics.data.transforms.sample import Sample

LEVELS = np.arange(256, dtype=np.float32)
HUES = 180  # OpenCV keeps hue in 0..179


@dataclass(frozen=True)
class RandomHSV:
    """Turn the hue by up to ± `hue` of the circle; scale saturation and value by up to 1 ± their shares."""

    hue: float
    saturation: float
    value: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not (self.hue or self.saturation or self.value):
            return sample
        turn, *factors = rng.uniform(-1, 1, 3) * (self.hue * HUES, self.saturation, self.value)
        table = np.empty((256, 1, 3), np.uint8)  # one look-up table a channel
        table[:, 0, 0] = (LEVELS + turn) % HUES
        for channel, factor in enumerate(factors, 1):
            table[:, 0, channel] = np.minimum(LEVELS * (1 + factor), 255)
        hsv = cv2.LUT(cv2.cvtColor(sample.image, cv2.COLOR_BGR2HSV), table)
        return replace(sample, image=cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))
