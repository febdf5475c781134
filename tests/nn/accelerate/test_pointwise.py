import pytest
from torch import nn

from tests.nn.accelerate.helpers import assert_rewriting_is_exact, batch, detector
from ultralytics.nn.accelerate import for_training

HEAD = [[2, 3, -1], 1, "RTDETRDecoder", ["nc", 32, 12, 2, 4, 1]]
LATERAL = [64, 1, 1, None, 1, 1, False]  # a 1x1 convolution without activation
UP = [None, 2, "nearest"]


def numbers(network: nn.Module) -> list[int]:
    return [layer.i for layer in network.model]


@pytest.mark.parametrize("block", ["RepC3", "C3", "C2f", "C2", "C3x"])
def test_upsampling_lateral_and_concatenation_are_merged_into_the_block(block):
    neck = [
        [-1, 1, "Conv", [64, 1, 1]],  # 4
        [-1, 1, "nn.Upsample", UP],
        [2, 1, "Conv", LATERAL],
        [[-2, -1], 1, "Concat", [1]],
        [-1, 2, block, [64]],  # 8
    ]
    fused = assert_rewriting_is_exact(detector(neck, HEAD))
    assert numbers(fused) == [0, 1, 2, 3, 4, 8, 9]
    assert fused.model[5].f == [2, -1]  # the map at full size first
    assert fused.model[5].entry.convs[0].in_channels == 32  # not the lateral's 64


@pytest.mark.parametrize(("block", "merged"), [("C2f_Edge_Split", True), ("C2f_Edge_Gated", False)])
def test_a_block_may_choose_its_forward_in_the_constructor(block, merged):
    network = detector([[-1, 2, block, [64]]], HEAD, modules=["tests/nn/fork_repository"])
    assert (type(assert_rewriting_is_exact(network).model[4]).__name__ == "SplitBlock") == merged


def test_kernels_of_three_dimensions_are_left_as_they_are():
    assert_rewriting_is_exact(detector([[[2, 3], 1, "ScalSeq3", [64]]], HEAD, modules=["tests/nn/fork_repository"]))


def test_a_layer_that_views_maps_gets_them_in_the_default_memory_format():
    network = detector([[2, 1, "ViewGroups", []], [-1, 1, "Conv", [64]]], HEAD, modules=["tests/nn/fork_repository"])
    fast = assert_rewriting_is_exact(network)
    assert all(p.is_contiguous() for p in fast.parameters())
    network = network.float().train()
    assert not any("channels-last" in label for label in for_training(network))
    assert network.loss({key: value.float() for key, value in batch().items()})[0].isfinite()


CONCAT, FUSION = [[-1, 2], 1, "Concat", [1]], [-1, 1, "RepC3", [32]]
UPSAMPLE, LINEAR = [-1, 1, "nn.Upsample", UP], [32, 1, 1, None, 1, 1, False]


@pytest.mark.parametrize(
    ("rows", "scales"),  # of layers 4 to 8
    [
        ([UPSAMPLE, UPSAMPLE, [2, *UPSAMPLE[1:]], [1, 1, "Conv", LATERAL], [[5, -2, -1], 1, "Concat", [1]]], [1, 2, 4]),
        (
            [[2, 1, "Conv", LINEAR], [-1, 1, "Conv", LINEAR], [3, 1, "Conv", LATERAL], UPSAMPLE,
             [[5, -1], 1, "Concat", [1]]], [1, 2],
        ),
    ],
)  # fmt: skip
def test_rows_after_one_another_and_three_inputs_are_merged(rows, scales):
    fused = assert_rewriting_is_exact(detector([*rows, FUSION], HEAD))
    assert numbers(fused) == [0, 1, 2, 3, 9, 10]
    assert fused.model[4].entry.scales == scales


UNTOUCHED = {
    "unknown block": [UPSAMPLE, CONCAT, [-1, 1, "SPPF", [32, 5]]],
    "upsampled map is read elsewhere": [UPSAMPLE, CONCAT, FUSION, [[-1, 4], 1, "Concat", [1]]],
    "concatenation is read elsewhere": [UPSAMPLE, CONCAT, [-1, 1, "C2f", [32]], [[-1, 5], 1, "Concat", [1]]],
    "bilinear": [[-1, 1, "nn.Upsample", [None, 2, "bilinear"]], CONCAT, FUSION],
    "lateral with an activation": [[2, 1, "Conv", [64, 1, 1]], CONCAT, FUSION],
    "lateral that narrows": [[2, 1, "Conv", [4, 1, 1, None, 1, 1, False]], CONCAT, [-1, 1, "RepC3", [64]]],
    "different activations": [UPSAMPLE, CONCAT, FUSION],
}


@pytest.mark.parametrize("case", UNTOUCHED)
def test_other_patterns_are_left_alone(case):
    network = detector(UNTOUCHED[case], HEAD)
    if case == "different activations":
        network.model[6].cv2.act = nn.ReLU()  # not that of cv1
    assert numbers(assert_rewriting_is_exact(network)) == numbers(network)
