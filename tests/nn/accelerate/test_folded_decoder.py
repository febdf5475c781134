from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.nn.accelerate.helpers import assert_rewriting_is_exact, detector, stirred
from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.accelerate.folded_decoder import FoldedDecoder, bilinear_corners
from ultralytics.nn.modules.deformable import deformable_sampling
from ultralytics.nn.tasks import RTDETRDetectionModel

SHAPES = [(6, 9), (3, 4), (1, 2)]


@pytest.mark.parametrize("reach", [1.0, 3.0], ids=["inside", "also outside"])
def test_corners_read_what_grid_sample_reads(reach):
    torch.manual_seed(0)
    batch, queries, heads, levels, points, channels = 2, 5, 3, 3, 4, 6
    locations = (torch.rand(batch, queries, heads, levels, points, 2, dtype=torch.float64) - 0.5) * reach + 0.5
    locations[0, 0, 0, 0, :2] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # the corners of the map themselves
    weights = torch.rand(batch, queries, heads, levels, points, dtype=torch.float64)
    value = torch.rand(batch, sum(h * w for h, w in SHAPES), heads, channels, dtype=torch.float64)
    tables = value.split([h * w for h, w in SHAPES], 1)
    maps = [
        table.permute(0, 2, 3, 1).reshape(batch * heads, channels, h, w)
        for table, (h, w) in zip(tables, SHAPES, strict=True)
    ]
    expected = deformable_sampling(maps, locations, weights)
    total = 0
    for table, rows, shares in zip(tables, *bilinear_corners(locations, weights, SHAPES), strict=True):
        index = (
            rows.permute(0, 2, 1, 3).flatten(2)[..., None].expand(-1, -1, -1, channels)
        )  # (B, heads, Q * corners, C)
        read = table.transpose(1, 2).gather(2, index).unflatten(2, (queries, -1))
        total = total + (read * shares.permute(0, 2, 1, 3)[..., None]).sum(3)
    torch.testing.assert_close(total.transpose(1, 2).flatten(2), expected)


@pytest.mark.parametrize(
    "row",
    [
        ["nc", 32, 12, 2, 4, 1],
        ["nc", 48, 12, 3, 6, 3, 64, 0.0, "gelu", 1],  # result of the layer before the last
        ["nc", 32, 12, 2, 4, 2, 64, 0.0, "relu", -1, 10, 0.5, 1.0, True],  # learned queries
    ],
)
@pytest.mark.parametrize("sources", [[1, 2, 3], [2, 3]])
def test_maps_of_different_widths(row, sources):
    fused = assert_rewriting_is_exact(detector([], [sources, 1, "RTDETRDecoder", row]))
    assert type(fused.model[-1]) is FoldedDecoder


def test_fewer_positions_than_queries():
    head = [[3], 1, "RTDETRDecoder", ["nc", 32, 40, 2, 4, 1]]
    assert_rewriting_is_exact(detector([], head, num_queries=40), size=(64, 64))


@torch.no_grad()
def test_sizes_may_change_between_images():
    network = detector([], [[1, 2, 3], 1, "RTDETRDecoder", ["nc", 32, 12, 2, 4, 1]])
    fused = for_inference(network)
    for size in ((64, 64), (96, 64), (64, 64)):
        x = torch.rand(1, 3, *size, dtype=torch.float64)
        torch.testing.assert_close(fused(x)[0], network(x)[0], rtol=0, atol=1e-10)


@torch.no_grad()
def test_the_exported_form_is_exact():
    network = detector([], [[1, 2, 3], 1, "RTDETRDecoder", ["nc", 32, 12, 2, 4, 2]])
    x = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    fast = for_inference(network)
    fast.model[-1].export = True
    torch.testing.assert_close(fast(x), network(x)[0], rtol=0, atol=1e-10)


@torch.no_grad()
def test_mixed_precision_and_half():
    network = stirred(RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", overrides={"num_queries": 30})).float()
    x = torch.rand(1, 3, 96, 96)
    with torch.autocast("cpu", torch.bfloat16):
        before = network(x)[1][2]
        after = for_inference(network)(x)[1][2]
    assert after.dtype == before.dtype == torch.float32
    best = F.pairwise_distance(before[0, :, None], after[0, None]).min(1).values  # each box has one close by
    assert best.median() < 0.01
