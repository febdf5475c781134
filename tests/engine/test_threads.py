"""One model used by several threads: every call has its own state."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest
import torch

from tests.small_detector import write_weights
from ultralytics import RTDETR

THREADS, SIZES = 8, (32, 64, 96, [64, 32], 128)
IMAGES = [np.random.default_rng(i).integers(0, 255, (20 + 7 * i, 60 - 5 * i, 3), np.uint8) for i in range(8)]


@pytest.fixture
def switching():
    """Switch threads as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"))


def jobs(count: int):
    """Return pairs of an image and an input size, in all combinations."""
    return [(n % len(IMAGES), SIZES[n % len(SIZES)]) for n in range(count)]


def predicted(model: RTDETR, job, **options) -> np.ndarray:
    image, imgsz = job
    (result,) = model.predict(IMAGES[image], imgsz=imgsz, conf=0.0, device="cpu", verbose=False, **options)
    assert result.orig_img is IMAGES[image]
    return result.boxes.numpy().data


def serial(model: RTDETR, **options) -> dict[str, np.ndarray]:
    return {str(job): predicted(model, job, **options) for job in jobs(len(IMAGES) * len(SIZES))}


@pytest.mark.parametrize(("accelerate", "calls"), [(True, 1000), (False, 200)])
def test_calls_of_threads_equal_serial_ones(weights, switching, accelerate, calls):
    expected, model = serial(RTDETR(weights), accelerate=accelerate), RTDETR(weights)  # built by the first thread
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda job: predicted(model, job, accelerate=accelerate), jobs(calls))
        for job, boxes in zip(jobs(calls), found, strict=True):
            assert np.array_equal(boxes, expected[str(job)]), job


def test_two_models_in_asyncio(weights, switching):
    models = [RTDETR(weights), RTDETR(weights)]
    with torch.no_grad():
        for tensor in models[1].model.model[-1].dec_bbox_head.parameters():
            tensor.add_(0.1)
    expected = [serial(model) for model in models]
    assert any((boxes != expected[1][job]).any() for job, boxes in expected[0].items())

    async def run() -> list[np.ndarray]:
        return await asyncio.gather(
            *(asyncio.to_thread(predicted, models[n % 2], job) for n, job in enumerate(jobs(200)))
        )

    for n, (job, boxes) in enumerate(zip(jobs(200), asyncio.run(run()), strict=True)):
        assert np.array_equal(boxes, expected[n % 2][str(job)]), job


def test_streams_are_interleaved(weights):
    model = RTDETR(weights)
    expected = {size: [predicted(model, (i, size)) for i in range(4)] for size in (32, 96)}
    streams = [model.predict(IMAGES[:4], imgsz=size, conf=0.0, device="cpu", stream=True) for size in (32, 96)]
    for i, results in enumerate(islice(zip(*streams, strict=True), 4)):
        for size, result in zip((32, 96), results, strict=True):
            assert np.array_equal(result.boxes.numpy().data, expected[size][i])
