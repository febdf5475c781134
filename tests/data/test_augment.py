"""The pipelines as a whole: what the option `augmentation` chooses, what `dense` composes, and when both end."""

from __future__ import annotations

import numpy as np
import pytest

from ultralytics.cfg import get_cfg
from ultralytics.data.augment import train_transforms, val_transforms
from ultralytics.data.transforms.mix import GridMosaic
from ultralytics.data.transforms.sample import Compose, Sample
from ultralytics.utils.errors import OptionError

SIZE = 64


class Source:
    """Eight 48 x 80 pictures, each one grey level, with two boxes of a class of its own."""

    augment_enabled = True

    def sample_random(self, index: int, count: int, rng: np.random.Generator) -> list[Sample]:
        return [self.load(int(i)) for i in rng.integers(8, size=count)]

    def load(self, index: int) -> Sample:
        image = np.full((48, 80, 3), 30 + 25 * index, np.uint8)
        boxes = np.float32([[8, 6, 40, 30], [50, 20, 53, 23]])  # the second is 2.4 x 4 pixels at 64, smaller in a grid
        return Sample(image, boxes, np.float32([index, index]), f"{index}.jpg", (48, 80), index)


def pipeline(source: Source, **changes) -> Compose:
    return train_transforms(get_cfg(overrides={"imgsz": SIZE, **changes}), source)


def outputs(source: Source, count: int = 40, **changes) -> list[Sample]:
    transform = pipeline(source, **changes)
    return [transform(source.load(seed % 8), np.random.default_rng(seed)) for seed in range(count)]


def same(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("image", "boxes", "cls"))


@pytest.mark.parametrize("dense", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("augmentation", ["mosaic", "official"])
def test_samples_are_well_formed_and_depend_on_the_generator_alone(augmentation, dense):
    source = Source()
    first = outputs(source, augmentation=augmentation, dense=dense)
    again = outputs(source, augmentation=augmentation, dense=dense)
    for a, b in zip(first, again, strict=True):
        assert a.image.shape == (SIZE, SIZE, 3) and a.image.dtype == np.uint8
        assert a.boxes.shape == (len(a.cls), 4) and a.boxes.dtype == np.float32 and a.cls.dtype == np.float32
        assert (a.boxes >= 0).all() and (a.boxes <= SIZE).all() and (a.boxes[:, 2:] - a.boxes[:, :2] >= 1).all()
        assert same(a, b)
    assert len({a.image.tobytes() for a in first}) > 30


def test_official_ends_in_images_only_flipped():
    source = Source()
    source.augment_enabled = False
    fitted = [val_transforms(SIZE)(source.load(seed % 8), np.random.default_rng(0)) for seed in range(40)]
    flips = 0
    for after, plain in zip(outputs(source, augmentation="official", dense=1.0), fitted, strict=True):
        assert np.array_equal(after.image, plain.image)  # one grey level: a flip does not show
        mirrored = SIZE - plain.boxes[:, [2, 1, 0, 3]] * (1, -1, 1, -1) - (0, SIZE, 0, SIZE)
        flips += np.allclose(after.boxes, mirrored)
        assert np.allclose(after.boxes, plain.boxes) or np.allclose(after.boxes, mirrored)
    assert 10 < flips < 30
    for after, plain in zip(outputs(source, augmentation="official", fliplr=0.0), fitted, strict=True):
        assert same(after, plain)


def test_official_does_everything_while_it_is_strong():
    kinds = {"as it was": 0, "zoomed out": 0, "coloured": 0, "cropped": 0}
    for seed, after in enumerate(outputs(Source(), 200, augmentation="official", fliplr=0.0)):
        plain = val_transforms(SIZE)(Source().load(seed % 8), np.random.default_rng(0))
        kinds["zoomed out"] += bool((after.image == 0).all(axis=2).any())
        kinds["coloured"] += after.image.max() != plain.image.max()  # of a grey image only brightness shows
        kinds["cropped"] += len(after.cls) < 2 or not np.allclose(after.boxes, plain.boxes, atol=1)
        kinds["as it was"] += same(after, plain)
    assert 40 < kinds["zoomed out"] < 130 and 70 < kinds["coloured"] < 180 and kinds["cropped"] > 100
    assert kinds["as it was"] < 30


def test_none_gives_what_validation_sees():
    source = Source()
    for seed, after in enumerate(outputs(source, augmentation="none")):
        assert same(after, val_transforms(SIZE)(source.load(seed % 8), np.random.default_rng(0)))
    with pytest.raises(OptionError, match=r"dense=0\.5 is not supported by augmentation=none"):
        pipeline(source, augmentation="none", dense=0.5)


def test_dense_is_a_grid_of_four_and_drops_what_gets_too_small():
    source = Source()
    grid = GridMosaic(source, Compose([]), Compose([]), SIZE, p=1.0)
    seen = set()
    for seed in range(20):
        after = grid(source.load(3), np.random.default_rng(seed))
        assert after.image.shape == (SIZE, SIZE, 3) and len(after.cls) == 4 and after.cls[0] == 3
        for quarter, (box, cls) in enumerate(zip(after.boxes, after.cls, strict=True)):
            left, top = 32 * (quarter % 2), 32 * (quarter // 2)
            assert (after.image[top : top + 32, left : left + 32] == 30 + 25 * cls).all()
            np.testing.assert_allclose(box, (left + 3.2, top + 4, left + 16, top + 20), atol=1e-4)
        seen.update(after.cls.tolist())
    assert len(seen) > 5
    source.augment_enabled = False
    assert grid(source.load(0), np.random.default_rng(0)).image.shape == (48, 80, 3)  # what `otherwise` gives


def test_dense_carries_several_times_the_boxes():
    for augmentation in ("mosaic", "official"):
        options = {"augmentation": augmentation, "mosaic": 0.0, "scale": 0.0, "translate": 0.0}
        plain, dense = (np.mean([len(s.cls) for s in outputs(Source(), 200, dense=p, **options)]) for p in (0.0, 1.0))
        assert 2.0 <= dense / plain <= 4.5  # twice at least, as the small one of two boxes is dropped in a grid
    half = outputs(Source(), 400, augmentation="mosaic", mosaic=0.0, dense=0.5)
    assert 140 < sum(len(set(s.cls.tolist())) > 1 for s in half) < 220  # four of eight classes are hardly ever one


def test_without_dense_the_mosaic_pipeline_draws_as_before():
    """`dense=0` neither draws a number nor changes one."""
    assert "GridMosaic" not in repr(pipeline(Source())) and "size=64, p=0.5" in repr(pipeline(Source(), dense=0.5))
