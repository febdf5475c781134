import shutil
from functools import reduce

import numpy as np
import pytest
import torch
from torch import nn

from ultralytics.tools.explain.receptive_field import SHARES, effective_receptive_fields, holding_square
from ultralytics.utils.errors import DataError


def plain_network(kernel: int, depth: int) -> nn.Module:
    """Stack convolutions whose weights are all one, as rows of a model."""
    network = nn.Module()
    convs = [nn.Conv2d(1 if i else 3, 1, kernel, padding=kernel // 2, bias=False) for i in range(depth)]
    network.model = nn.Sequential(*convs)
    network.forward = network.model.forward
    for i, conv in enumerate(convs):
        nn.init.ones_(conv.weight)
        conv.i, conv.num_slots, conv.type = i, 1, "Conv2d"
    return network


@pytest.mark.parametrize("depth", [1, 4, 9])
def test_a_plain_stack_has_the_closed_form(depth):
    """Ones convolved with themselves: coefficients of (1 + x + x^2)^depth in both directions (arXiv:1701.04128)."""
    line = np.pad(reduce(np.convolve, [np.ones(3)] * depth), 20 - depth)  # 41 pixels
    images = [torch.rand(1, 3, 41, 41) for _ in range(2)]
    fields, count = effective_receptive_fields(plain_network(3, depth), images, sorted({0, depth - 1}))
    assert count == 2
    np.testing.assert_allclose(fields[depth - 1], 3 * np.outer(line, line), rtol=1e-6)  # three channels
    assert np.count_nonzero(fields[0]) == 9
    for share in (share / 100 for share in SHARES):
        within = [(line[20 - r : 21 + r].sum() / line.sum()) ** 2 for r in range(21)]
        expected = 1 + 2 * next(r for r, part in enumerate(within) if part >= share)
        assert holding_square(fields[depth - 1], share) == expected


@pytest.mark.parametrize("side", [32, 33])
def test_kernels_of_one_see_one_pixel(side):
    fields, _ = effective_receptive_fields(plain_network(1, 3), [torch.rand(1, 3, side, side)], [2])
    assert np.argwhere(fields[2]).tolist() == [[side // 2, side // 2]]
    assert [holding_square(fields[2], share / 100) for share in SHARES] == [1, 1, 1, 1]


def test_only_positive_gradients_contribute():
    network = plain_network(3, 1)
    with torch.no_grad():
        network.model[0].weight[..., 0] = -1  # left column
    fields, _ = effective_receptive_fields(network, [torch.rand(1, 3, 9, 9)], [0])
    np.testing.assert_allclose(fields[0][3:6, 3:6], [[0, 3, 3]] * 3)
    network.model[0].weight.zero_()
    with pytest.raises(DataError, match="layer 0: the sum of the gradient is 0"):
        effective_receptive_fields(network, [torch.rand(1, 3, 9, 9)], [0])
    with pytest.raises(DataError, match="no image could be read"):
        effective_receptive_fields(network, [], [0])


@pytest.mark.parametrize("kind", ["weights", "model_file"])
def test_figure_and_table(yolo, kind, request, images, tmp_path):
    model = request.getfixturevalue(kind)
    text = yolo("erf", f"model={model}", f"source={images}", "imgsz=64", "layers=2,top", "images=2", "device=cpu")
    assert "2 images of 64 pixels" in text and ("random" in text) == (kind == "model_file")
    folder = tmp_path / "runs/erf" / model.stem
    title, *rows = (folder / "erf.csv").read_text().splitlines()
    assert title == "Layer,Contribution (%),Side (px),Area (%)" and len(rows) == 8
    assert rows[0].startswith("2 EfficientViT_M0,20,") and rows[4].startswith("5 Conv,20,")
    sides = [int(row.split(",")[2]) for row in rows[:4]]
    assert sides == sorted(sides) and float(rows[0].split(",")[3]) == pytest.approx(100 * (sides[0] / 64) ** 2)
    assert (folder / "erf.png").stat().st_size > 10_000


def test_the_last_map_of_the_backbone_and_the_sample_images(yolo, model_file):
    text = yolo("erf", f"model={model_file}", "imgsz=64", "device=cpu")
    assert "4 EfficientViT_M0" in text and "2 images of 64 pixels" in text


def test_images_for_validation_of_a_data_set(yolo, model_file, images, tmp_path):
    shutil.copytree(images, tmp_path / "val" / "deeper")  # folders of data sets are searched at any depth
    (tmp_path / "data.yaml").write_text("val: val\nnames: [a]")
    assert "3 images of 64 pixels" in yolo("erf", f"model={model_file}", "imgsz=64", "device=cpu", "data=data.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("source=a.jpg", "data=b.yaml"), "source=a.jpg and data=b.yaml: give one of them"),
        (("layers=77",), "no later layer reads '77'"),
        (("data=none.yaml",), "none.yaml"),
        (("images=0",), "images: expected an integer >= 1, got 0"),
    ],
)
def test_errors(refused, model_file, words, message):
    assert message in refused("erf", f"model={model_file}", "imgsz=64", *words)
