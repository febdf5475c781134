"""The decoder computes in float32 where the rest of the network computes in 16 bits."""

from __future__ import annotations

import pytest
import torch

from ultralytics.nn.tasks import RTDETRDetectionModel

NETWORK = {
    "nc": 3,
    "backbone": [[-1, 1, "Conv", [16, 3, 8]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]],
    "head": [[[0, 1, 2], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 2]]],
}


def overflowing(scale: float) -> RTDETRDetectionModel:
    """A network whose feed-forward networks reach values that float16 does not have."""
    torch.manual_seed(0)
    model = RTDETRDetectionModel(NETWORK)
    with torch.no_grad():
        for layer in model.model[-1].decoder.layers:
            layer.linear1.weight *= scale
            layer.linear2.weight *= scale
    return model


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_the_decoder_does_not_overflow(dtype, training):
    model = overflowing(scale=1000).train(training)
    batch = {
        "img": torch.rand(2, 3, 64, 64),
        "cls": torch.tensor([[0.0], [2.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.4, 0.5, 0.2]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
    }
    with torch.autocast("cpu", dtype):
        loss, items = model.loss(batch) if training else model.loss(batch, model(batch["img"]))
    assert loss.isfinite() and items.isfinite().all() and loss.dtype == torch.float32
    if training:
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_without_that_it_would():
    decoder = overflowing(scale=1000).model[-1].decoder
    with torch.autocast("cpu", torch.float16):
        widened = decoder.layers[0].linear1(torch.ones(1, 4, 32)).relu()
        assert not decoder.layers[0].linear2(widened).isfinite().all()
