"""What the benchmarks count, and that the plain training step does what ours does."""

import torch
import training
from machine import operations
from torch import nn

from ultralytics.utils.torch_utils import ModelEMA


def test_operations_of_attention_are_counted_too():
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    projections, products = 4 * 5 * 8 * 8, 2 * 5 * 5 * 8  # of 5 tokens with 8 channels
    assert operations(lambda x: attention(x, x, x), torch.rand(1, 5, 8)) == 2 * (projections + products) / 1e9


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
