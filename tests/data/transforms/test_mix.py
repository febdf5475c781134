import numpy as np
import pytest

from tests.data.transforms.test_geometry import SIZE, sample
from ultralytics.data.transforms.geometry import RandomPerspective
from ultralytics.data.transforms.mix import CutMix, MixUp, Mosaic


class FakeSource:
    def __init__(self, boxes, shape=(SIZE, SIZE)):
        self.samples, self.augment_enabled = [sample(box, shape, i) for i, box in enumerate(boxes)], True

    def load(self, index):
        return self.samples[index]

    def sample_random(self, index, count, rng):
        return [self.samples[i] for i in rng.integers(len(self.samples), size=count)]


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (60, SIZE)])
def test_mosaic(shape):
    source = FakeSource([(30, 20, 60, 50), (40, 10, 80, 30), (10, 10, 30, 50)], shape)
    whole_canvas = Mosaic(source, SIZE, 1.0)
    for seed in range(20):
        after = whole_canvas(source.load(0), np.random.default_rng(seed))
        assert after.image.shape == (2 * SIZE, 2 * SIZE, 3) and len(after.boxes) >= 1
        for x1, y1, x2, y2 in after.boxes.astype(int):
            assert (after.image[y1:y2, x1:x2] == 255).all()
        assert int((after.boxes[:, 2:] - after.boxes[:, :2]).prod(1).sum()) <= (after.image[..., 0] == 255).sum()
    source.augment_enabled = False
    placed = Mosaic(source, SIZE, 1.0, affine=RandomPerspective(0, 0, 0, size=SIZE))(
        source.load(0), np.random.default_rng(0)
    )
    assert placed.cls.tolist() == [0] and placed.shape == (SIZE, SIZE)


def test_mixup():
    source = FakeSource([(30, 20, 60, 50), (40, 10, 80, 30)])
    mixup = MixUp(source, lambda other, rng: other, p=1.0)
    results = [mixup(source.load(0), np.random.default_rng(seed)) for seed in range(8)]
    other = next(result for result in results if result.cls.tolist() == [0, 1])
    assert other.boxes.tolist() == [[30, 20, 60, 50], [40, 10, 80, 30]]
    assert 60 < other.image[45, 35, 0] < 200 and other.image[25, 50, 0] == 255
    source.augment_enabled = False
    assert mixup(source.load(0), np.random.default_rng(0)) is source.load(0)


def test_cutmix_pastes_rectangles_that_cover_no_box():
    source = FakeSource([(30, 20, 60, 50), (0, 60, 50, 90), (0, 0, 96, 96)])
    source.sample_random = lambda index, count, rng: [source.load(1)] * count
    cutmix, pasted = CutMix(source, lambda other, rng: other, p=1.0), 0
    for seed in range(60):
        after = cutmix(source.load(0), np.random.default_rng(seed))
        assert after.boxes.dtype == np.float32 and after.boxes[0].tolist() == [30, 20, 60, 50]
        if after is not source.load(0):
            pasted += 1
            assert after.cls.tolist() == [0, 1] and (after.image[20:50, 30:60] == 255).all()
            (x1, y1, x2, y2), white = after.boxes[1].astype(int), (after.image[..., 0] == 255).sum()
            assert x1 >= 0 and y1 >= 60 and x2 <= 50 and y2 <= 90  # a part of the other box
            assert (after.image[y1:y2, x1:x2] == 255).all() and white == 30 * 30 + (x2 - x1) * (y2 - y1)
            assert (x2 - x1) * (y2 - y1) >= 0.1 * 50 * 30
    assert 10 < pasted < 60
    assert cutmix(source.load(2), np.random.default_rng(0)) is source.load(2)  # no place is free
    source.augment_enabled = False
    assert cutmix(source.load(0), np.random.default_rng(0)) is source.load(0)
