import numpy as np
import pytest

from tests.data.test_dataset import build
from ultralytics.data.build import EpochSampler
from ultralytics.data.dataset import WINDOW, Window, epoch_order


@pytest.mark.parametrize("length", [1, 5, WINDOW, 3 * WINDOW])
def test_partners_are_near_in_the_order_of_the_epoch(length):
    order = epoch_order(length, seed=4, epoch=2)
    assert sorted(order.tolist()) == list(range(length))
    assert list(sampler_of(length, seed=4, epoch=2)) == order.tolist()
    window = Window(length, seed=4)
    turns = {index: turn for turn, index in enumerate(order.tolist())}
    for index in range(length):
        drawn = window.draw(index, 2, 200, np.random.default_rng(index))
        turn = turns[index]
        allowed = range(max(0, turn + 1 - WINDOW), max(turn + 1, min(WINDOW, length)))
        assert {turns[i] for i in drawn} <= set(allowed)
        assert drawn == Window(length, seed=4).draw(index, 2, 200, np.random.default_rng(index))


def sampler_of(length: int, seed: int, epoch: int) -> EpochSampler:
    sampler = EpochSampler(length, seed)
    sampler.epoch = epoch
    return sampler


def test_nothing_is_kept_before_something_is_mixed():
    window = Window(10, seed=0)
    window.keep(3, np.zeros(1))
    assert not window.images


def test_images_leave_with_the_window():
    length = 5 * WINDOW
    window, order = Window(length, seed=0), epoch_order(length, 0, 0).tolist()
    most = 0
    for turn, index in enumerate(order):
        window.draw(index, 0, 3, np.random.default_rng(turn))
        window.keep(index, np.zeros(1))
        most = max(most, len(window.images))
    assert WINDOW <= most <= WINDOW + 1


def test_mosaics_of_an_epoch_decode_each_image_about_once(small_set, monkeypatch):
    dataset = build(small_set, training=True, mosaic=1.0, mixup=1.0)
    order = list(EpochSampler(6, seed=0))
    first = [dataset[i]["img"] for i in order]
    reads = []
    read = dataset._read
    monkeypatch.setattr(dataset, "_read", lambda file: reads.append(file) or read(file))
    again = [dataset[i]["img"] for i in order]
    assert reads == [] and all((a == b).all() for a, b in zip(first, again, strict=True))
    dataset.set_epoch(1)
    for i in sampler_of(6, seed=0, epoch=1):
        dataset[i]
    assert len(reads) <= 1
