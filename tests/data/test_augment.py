"""Pipelines of the option `augmentation`, with and without `dense` and `close_mosaic`."""

import numpy as np
import pytest

from ultralytics.cfg import get_cfg
from ultralytics.data.augment import train_transforms
from ultralytics.data.transforms.geometry import Resize
from ultralytics.data.transforms.mix import GridMosaic
from ultralytics.data.transforms.sample import Compose, Sample
from ultralytics.utils.errors import OptionError

SIZE = 64


class Source:
    """Eight pictures, each one gray level, with two boxes of a class of its own."""

    augment_enabled, shape = True, (48, 80)

    def sample_random(self, index: int, count: int, rng: np.random.Generator) -> list[Sample]:
        return [self.load(int(i)) for i in rng.integers(8, size=count)]

    def load(self, index: int) -> Sample:
        image = np.full((*self.shape, 3), 30 + 25 * index, np.uint8)
        boxes = np.float32([[8, 6, 40, 30], [50, 20, 53, 23]])  # the second is 2.4 x 4 pixels at 64, smaller in a grid
        return Sample(image, boxes, np.float32([index, index]), f"{index}.jpg", self.shape, index)


def pipeline(source: Source, resize: str = "stretch", **changes) -> Compose:
    return train_transforms(get_cfg(overrides={"imgsz": SIZE, **changes}), source, SIZE, resize)


def outputs(source: Source, count: int = 40, **changes) -> list[Sample]:
    transform = pipeline(source, **changes)
    return [transform(source.load(seed % 8), np.random.default_rng(seed)) for seed in range(count)]


def same(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("image", "boxes", "cls"))


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("dense", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("augmentation", ["mosaic", "official"])
def test_samples_are_well_formed_and_depend_on_the_generator_only(augmentation, dense, resize):
    source = Source()
    first = outputs(source, resize=resize, augmentation=augmentation, dense=dense)
    again = outputs(source, resize=resize, augmentation=augmentation, dense=dense)
    for a, b in zip(first, again, strict=True):
        assert a.image.shape == (SIZE, SIZE, 3) and a.image.dtype == np.uint8
        assert a.boxes.shape == (len(a.cls), 4) and a.boxes.dtype == np.float32 and a.cls.dtype == np.float32
        assert (a.boxes >= 0).all() and (a.boxes <= SIZE).all() and (a.boxes[:, 2:] - a.boxes[:, :2] >= 1).all()
        assert same(a, b)
    assert len({a.image.tobytes() for a in first}) > 30


def test_order_of_the_pipelines():
    official, mosaic = (repr(pipeline(Source(), augmentation=name)) for name in ("official", "mosaic"))
    assert official == (
        "Compose(transforms=[Compose(transforms=[WithAugmentation(transform=Compose(transforms=["
        "RandomPhotometricDistort(p=0.5), RandomZoomOut(p=0.5, max_side=128), RandomIoUCrop(p=0.8)])), "
        "Resize(size=64), SanitizeBoundingBoxes(min_side=1)]), RandomFlip(p=0.5, direction='horizontal')])"
    )
    assert "CutMix" not in mosaic and "CutMix(p=0.5), RandomHSV" in repr(pipeline(Source(), cutmix=0.5))
    order = (
        "Mosaic",
        "MixUp",
        "RandomHSV",
        "RandomFlip(p=0.0, direction='vertical')",
        "RandomFlip(p=0.5, direction='horizontal')",
    )
    assert [mosaic.index(name) for name in order] == sorted(mosaic.index(name) for name in order)
    assert "GridMosaic" not in mosaic and "GridMosaic" in repr(pipeline(Source(), dense=0.5))


def test_official_ends_in_images_only_flipped():
    source = Source()
    source.augment_enabled = False
    for seed, after in enumerate(outputs(source, augmentation="official", dense=1.0, fliplr=1.0)):
        plain = Resize(SIZE)(source.load(seed % 8), np.random.default_rng(0))
        assert np.array_equal(after.image, plain.image)  # one gray level: a flip does not show
        np.testing.assert_allclose(after.boxes[:, [2, 0]], SIZE - plain.boxes[:, [0, 2]])
        assert np.array_equal(after.boxes[:, [1, 3]], plain.boxes[:, [1, 3]])


def test_none_is_the_pipeline_of_validation():
    source = Source()
    for seed, after in enumerate(outputs(source, augmentation="none")):
        assert same(after, Resize(SIZE)(source.load(seed % 8), np.random.default_rng(0)))
    with pytest.raises(OptionError, match=r"dense=0\.5 needs augmentation=mosaic or official"):
        pipeline(source, augmentation="none", dense=0.5)


def test_dense_grid_of_four_drops_small_boxes():
    source = Source()
    grid = GridMosaic(source, Compose([]), Resize(SIZE // 2), Compose([]), SIZE, p=1.0)
    for seed in range(20):
        after = grid(source.load(3), np.random.default_rng(seed))
        assert after.image.shape == (SIZE, SIZE, 3) and len(after.cls) == 4 and after.cls[0] == 3
        for quarter, (box, cls) in enumerate(zip(after.boxes, after.cls, strict=True)):
            left, top = 32 * (quarter % 2), 32 * (quarter // 2)
            assert (after.image[top : top + 32, left : left + 32] == 30 + 25 * cls).all()
            np.testing.assert_allclose(box, (left + 3.2, top + 4, left + 16, top + 20), atol=1e-4)
    source.augment_enabled = False
    assert grid(source.load(0), np.random.default_rng(0)).image.shape == (48, 80, 3)  # what `otherwise` gives


def test_letterboxed_images_keep_their_aspect_ratio():
    source = Source()
    off = dict.fromkeys(("mosaic", "translate", "scale", "hsv_s", "hsv_v", "hsv_h", "fliplr"), 0.0)
    for seed, after in enumerate(outputs(source, resize="letterbox", **off)):
        assert (after.image[13:51] == 30 + 25 * (seed % 8)).all() and (after.image[:13] == 114).all()  # 38 = 48 * 0.8
        np.testing.assert_allclose(after.boxes[0], (6.4, 4.75 + 13, 32, 23.75 + 13), atol=0.01)
