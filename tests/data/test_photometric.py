"""The photometric distortion against torchvision's, whose ranges the official RT-DETR configuration uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from ultralytics.data.transforms.color import Distortion, RandomPhotometricDistort, distort
from ultralytics.data.transforms.sample import Sample

pytest.importorskip("torchvision", minversion="0.21", reason="before it parameters were not public")

FACTORS = {"brightness": (0.875, 1.0, 1.125), "contrast": (0.5, 1.3, 1.5), "saturation": (0.5, 1.2, 1.5)}
CASES = [(name, factor) for name, factors in FACTORS.items() for factor in factors] + [("hue", -0.05), ("hue", 0.03)]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(48, 64, 3) BGR, smooth with some noise: every hue and a range of levels."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 255, (4, 5, 3))
    smooth = np.kron(corners, np.ones((12, 13, 1)))[:, :64]
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def as_rgb(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))


@pytest.mark.parametrize(("name", "factor"), CASES)
def test_each_property_changes_as_in_torchvision(picture, name, factor):
    ours = as_rgb(distort(picture, Distortion(**{name: factor}))).int()
    theirs = getattr(reference, f"adjust_{name}")(as_rgb(picture), factor).int()
    gap = (ours - theirs).abs()
    # Rounding only; the hue is kept in 256 steps here (each 6 levels of a channel at most) and as a float there.
    assert gap.float().mean() < 1.5 and gap.max() <= (12 if name == "hue" else 2)
    unchanged = (ours - as_rgb(picture).int()).abs().float().mean()
    assert unchanged > 3 or factor == 1.0


def test_contrast_comes_before_or_after_the_others(picture):
    first = distort(picture, Distortion(contrast=1.5, saturation=0.5))
    last = distort(picture, Distortion(contrast=1.5, saturation=0.5, contrast_first=False))
    steps = [Distortion(saturation=0.5), Distortion(contrast=1.5)]
    assert np.array_equal(last, distort(distort(picture, steps[0]), steps[1]))
    assert np.array_equal(first, distort(distort(picture, steps[1]), steps[0]))
    assert not np.array_equal(first, last)


def test_channels_are_permuted(picture):
    changed = distort(picture, Distortion(channels=(2, 0, 1)))
    assert np.array_equal(changed, picture[..., [2, 0, 1]]) and changed.flags.c_contiguous


def test_strengths_have_torchvisions_distribution(picture):
    transform, rng = RandomPhotometricDistort(p=0.5), np.random.default_rng(0)
    ours = [transform.draw(rng) for _ in range(2000)]
    torch.manual_seed(0)
    theirs = [v2.RandomPhotometricDistort(p=0.5).make_params([as_rgb(picture)]) for _ in range(2000)]
    for name in ("brightness", "contrast", "saturation", "hue"):
        a = np.array([value for d in ours if (value := getattr(d, name)) is not None])
        b = np.array([float(value) for d in theirs if (value := d[f"{name}_factor"]) is not None])
        span = np.ptp(b)
        assert abs(len(a) - len(b)) < 160  # 5 standard deviations of a difference of two such counts
        np.testing.assert_allclose(np.quantile(a, (0, 0.25, 0.5, 0.75, 1)), np.quantile(b, (0, 0.25, 0.5, 0.75, 1)),
                                   atol=0.06 * span)  # fmt: skip
    for a, b in (
        ([d.channels is not None for d in ours], [d["channel_permutation"] is not None for d in theirs]),
        ([d.contrast_first for d in ours], [d["contrast_before"] for d in theirs]),
    ):
        assert abs(np.mean(a) - np.mean([bool(x) for x in b])) < 0.08
    assert len({d.channels for d in ours}) == 7  # six orders, or none


def test_boxes_and_the_given_image_stay(picture):
    before = picture.copy()
    sample = Sample(picture, np.float32([[1, 2, 30, 40]]), np.float32([0]), "a.jpg", picture.shape[:2], 0)
    seen = {RandomPhotometricDistort()(sample, np.random.default_rng(seed)).image.tobytes() for seed in range(20)}
    assert len(seen) > 15 and np.array_equal(picture, before)
    assert RandomPhotometricDistort()(sample, np.random.default_rng(1)).boxes is sample.boxes
    assert np.array_equal(RandomPhotometricDistort(p=0)(sample, np.random.default_rng(0)).image, picture)
