"""The photometric distortion against torchvision's, whose ranges the official RT-DETR configuration uses."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from ultralytics.data.transforms import color
from ultralytics.data.transforms.color import RandomHSV, RandomPhotometricDistort
from ultralytics.data.transforms.sample import Sample

pytest.importorskip("torchvision", minversion="0.21", reason="before it parameters were not public")

FACTORS = {"brightness": (0.875, 1.0, 1.125), "contrast": (0.5, 1.3, 1.5), "saturation": (0.5, 1.2, 1.5)}
CASES = [(name, factor) for name, factors in FACTORS.items() for factor in factors] + [("hue", -0.05), ("hue", 0.03)]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(48, 64, 3) BGR, smooth with some noise: every hue and a range of levels."""
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.uniform(0, 255, (4, 5, 3)), np.ones((12, 13, 1)))[:, :64]
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def as_rgb(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))


@pytest.mark.parametrize(("name", "factor"), CASES)
def test_adjustments_match_torchvision(picture, name, factor):
    ours = as_rgb(getattr(color, f"adjust_{name}")(picture, factor)).int()
    theirs = getattr(reference, f"adjust_{name}")(as_rgb(picture), factor).int()
    gap = (ours - theirs).abs()
    # Rounding only; hue has 256 steps here (each at most 6 levels of a channel) and is a float there.
    assert gap.float().mean() < 1.5 and gap.max() <= (12 if name == "hue" else 2)
    assert (ours - as_rgb(picture).int()).abs().float().mean() > 3 or factor == 1.0


def test_strengths_have_the_distribution_of_torchvision(picture):
    transform, rng = RandomPhotometricDistort(p=0.5), np.random.default_rng(0)
    ours = [{adjust.__name__: value for adjust, value in transform.draw(rng)} for _ in range(2000)]
    torch.manual_seed(0)
    theirs = [v2.RandomPhotometricDistort(p=0.5).make_params([as_rgb(picture)]) for _ in range(2000)]
    quantiles = (0, 0.25, 0.5, 0.75, 1)
    for name in ("brightness", "contrast", "saturation", "hue"):
        a = np.array([d[f"adjust_{name}"] for d in ours if f"adjust_{name}" in d])
        b = np.array([float(value) for d in theirs if (value := d[f"{name}_factor"]) is not None])
        assert abs(len(a) - len(b)) < 160  # 5 standard deviations of a difference of two such counts
        np.testing.assert_allclose(np.quantile(a, quantiles), np.quantile(b, quantiles), atol=0.06 * np.ptp(b))
    permuted = sum("permute_channels" in d for d in ours) - sum(d["channel_permutation"] is not None for d in theirs)
    assert abs(permuted) < 160 and len({tuple(d.get("permute_channels", ())) for d in ours}) == 7  # six orders, or none


def test_photometric_distort_changes_neither_boxes_nor_its_input(picture):
    before = picture.copy()
    sample = Sample(picture, np.float32([[1, 2, 30, 40]]), np.float32([0]), "a.jpg", picture.shape[:2], 0)
    after = [RandomPhotometricDistort()(sample, np.random.default_rng(seed)) for seed in range(20)]
    assert len({item.image.tobytes() for item in after}) > 15 and after[0].boxes is sample.boxes
    assert np.array_equal(picture, before)


def test_hsv_has_no_drift():
    image = np.full((96, 96, 3), (60, 120, 180), np.uint8)
    sample = Sample(image, np.float32([[1, 2, 30, 40]]), np.float32([0]), "a.jpg", (96, 96), 0)
    images = [RandomHSV(0.015, 0.7, 0.4)(sample, np.random.default_rng(seed)).image[0, 0] for seed in range(50)]
    assert len({tuple(pixel.tolist()) for pixel in images}) > 40
    assert np.abs(np.mean(images, axis=0) - (60, 120, 180)).max() < 15
    assert RandomHSV(0, 0, 0)(sample, np.random.default_rng(0)) is sample
