import numpy as np
import pytest

from tests.data.test_dataset import build
from ultralytics.data.build import EpochSampler
from ultralytics.data.dataset import BUFFER, MixingBuffer, epoch_order


@pytest.mark.parametrize("length", [1, 5, BUFFER, 3 * BUFFER])
def test_partners_are_near_in_the_order_of_the_epoch(length):
    order = epoch_order(length, seed=4, epoch=2)
    assert sorted(order.tolist()) == list(range(length))
    assert list(sampler_of(length, seed=4, epoch=2)) == order.tolist()
    buffer = MixingBuffer(length, seed=4)
    turns = {index: turn for turn, index in enumerate(order.tolist())}
    for index in range(length):
        drawn = buffer.draw(index, 2, 200, np.random.default_rng(index))
        turn = turns[index]
        allowed = range(max(0, turn + 1 - BUFFER), max(turn + 1, min(BUFFER, length)))
        assert {turns[i] for i in drawn} <= set(allowed)
        assert drawn == MixingBuffer(length, seed=4).draw(index, 2, 200, np.random.default_rng(index))


def sampler_of(length: int, seed: int, epoch: int) -> EpochSampler:
    sampler = EpochSampler(length, seed)
    sampler.epoch = epoch
    return sampler


def test_nothing_is_kept_before_something_is_mixed():
    buffer = MixingBuffer(10, seed=0)
    buffer.keep(3, np.zeros(1))
    assert not buffer.images


def test_images_leave_with_the_buffer():
    length = 5 * BUFFER
    buffer, order = MixingBuffer(length, seed=0), epoch_order(length, 0, 0).tolist()
    most = 0
    for turn, index in enumerate(order):
        buffer.draw(index, 0, 3, np.random.default_rng(turn))
        buffer.keep(index, np.zeros(1))
        most = max(most, len(buffer.images))
    assert BUFFER <= most <= BUFFER + 1


def test_mosaics_of_an_epoch_decode_each_image_about_once(small_set, monkeypatch):
    dataset = build(small_set, training=True, mosaic=1.0, mixup=1.0)
    order = list(EpochSampler(6, seed=0))
    first = [dataset[i]["img"] for i in order]
    reads = []
    read = dataset.source._read
    monkeypatch.setattr(dataset.source, "_read", lambda file: reads.append(file) or read(file))
    again = [dataset[i]["img"] for i in order]
    assert reads == [] and all((a == b).all() for a, b in zip(first, again, strict=True))
    dataset.set_epoch(1)
    for i in sampler_of(6, seed=0, epoch=1):
        dataset[i]
    assert len(reads) <= 1
