import pytest
import torch
import torch.nn.functional as F

from tests.nn.accelerate.helpers import assert_rewriting_is_exact, detector, stirred
from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.accelerate.folded_decoder import FoldedDecoder
from ultralytics.nn.tasks import RTDETRDetectionModel


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
