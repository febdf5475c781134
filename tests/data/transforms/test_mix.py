import numpy as np
import pytest

from tests.data.transforms.test_geometry import SIZE, sample
from ultralytics.data.transforms.geometry import RandomPerspective
from ultralytics.data.transforms.mix import MixUp, Mosaic
from ultralytics.data.transforms.sample import Compose


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
    whole_canvas = Mosaic(source, SIZE, 1.0, Compose([]), RandomPerspective(2 * SIZE))
    for seed in range(20):
        after = whole_canvas(source.load(0), np.random.default_rng(seed))
        assert after.image.shape == (2 * SIZE, 2 * SIZE, 3) and len(after.boxes) >= 1
        for x1, y1, x2, y2 in after.boxes.astype(int):
            assert (after.image[y1:y2, x1:x2] == 255).all()
        assert int((after.boxes[:, 2:] - after.boxes[:, :2]).prod(1).sum()) <= (after.image[..., 0] == 255).sum()
    source.augment_enabled = False
    placed = Mosaic(source, SIZE, 1.0, Compose([]), RandomPerspective(SIZE))(source.load(0), np.random.default_rng(0))
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
