"""What the benchmarks count, and that the plain training step does what ours does."""

import pytest
import scaling
import torch
import training
from machine import operations
from torch import nn

from ultralytics.utils.torch_utils import ModelEMA


def test_operations_of_attention_are_counted_too():
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    projections, products = 4 * 5 * 8 * 8, 2 * 5 * 5 * 8  # of 5 tokens with 8 channels
    assert operations(lambda x: attention(x, x, x), torch.rand(1, 5, 8)) == 2 * (projections + products) / 1e9


def test_windows_are_compared_with_the_maps_that_they_cover():
    assert [scaling.padding(448, stride) for stride in (8, 16, 32)] == [1, 1, 1]
    assert scaling.padding(640, 8) == (84 / 80) ** 2
    rows = [scaling.row((2, 320, 1), [0.2, 0.1, 0.3], {(2, 320, 1): 12.0})]
    assert rows[0]["of a megapixel, ms"] == pytest.approx(100 / 0.2048)
    assert scaling.markdown(rows).splitlines()[-1] == "| 2 | 320 | 1 | 100 | 200 | 488 | 1.1, 1.1, 1.96 | 12 |"


def test_the_plain_average_is_that_of_our_trainer():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ours = ModelEMA(network)
    optimizer, average = training.plain_updates(network)
    averaged = average.network
    for _ in range(3):
        network(torch.rand(4, 3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average()
        ours.update()
    for name, value in ours.ema.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(averaged.state_dict()[name], value)
    assert not torch.equal(averaged[1].bias, network[1].bias)  # the one in front has hardly a gradient, or none
