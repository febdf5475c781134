"""Load tensors into a model: changes of shape, class rows, and the report."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ultralytics.nn.weights import load_matching
from ultralytics.nn.weights.load import fit, match_classes
from ultralytics.nn.weights.names import NamingScheme
from ultralytics.utils.errors import WeightsError


def test_report_lists_loaded_and_left_tensors(caplog):
    model = nn.Linear(3, 2)
    source = {"net.weight": torch.ones(2, 3), "net.bias": torch.ones(5), "top": torch.ones(1)}
    report = load_matching(model, source, origin="file.pt", scheme=NamingScheme("net", prefix="net."))
    assert report.matched == ("weight",) and report.missing == ("bias",) and not report.resized
    assert report.left == {"net.bias": "shape (5,), the model has (2,)", "top": "no such name in the model"}
    assert torch.equal(model.weight.detach(), torch.ones(2, 3))
    assert "file.pt: 1 tensor loaded unchanged, 0 after a change of shape, 2 left in the file, 1 of" in caplog.text
    assert "not in the file: bias" in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"weight": torch.ones(4, 4)}, "none of its tensors fits Linear, which has 2"),
        ({}, "the file is empty"),
        ({"weight": torch.full((2, 3), torch.nan)}, "weight has values that are NaN or infinite"),
    ],
    ids=["shape", "empty", "NaN"],
)
def test_errors_leave_the_model_unchanged(source, message):
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    with pytest.raises(WeightsError, match=message):
        load_matching(model, source)
    assert torch.equal(model.weight.detach(), before)


@pytest.mark.parametrize(("old", "new"), [((3, 3), (7, 7)), ((3, 5), (5, 5)), ((1, 1), (3, 3))])
def test_padded_depthwise_kernel_computes_the_same(old, new):
    kernel, x = torch.randn(8, 1, *old), torch.randn(2, 8, 12, 11)
    grown, how = fit("dw.weight", kernel, torch.empty(8, 1, *new))
    assert "padded with zeros" in how
    same = [F.conv2d(x, k, padding=(k.shape[2] // 2, k.shape[3] // 2), groups=8) for k in (kernel, grown)]
    assert torch.allclose(*same, atol=1e-6)


def test_cropped_kernel_is_warned_about(caplog):
    model = nn.Conv2d(8, 8, 3, groups=8)
    kernel = torch.randn(8, 1, 5, 5)
    report = load_matching(model, {"weight": kernel})
    assert torch.equal(model.weight.detach(), kernel[:, :, 1:-1, 1:-1])
    assert report.resized == {"weight": "kernel 5x5 cropped to its center 3x3"}
    assert "1 kernel larger than in the model, cropped, which changes the output" in caplog.text


@pytest.mark.parametrize(
    ("value", "target", "reason"),
    [
        (torch.ones(8, 1, 4, 4), torch.ones(8, 1, 3, 3), "no center in common"),
        (torch.ones(8, 4, 3, 3), torch.ones(8, 4, 5, 5), "shape (8, 4, 3, 3), the model has (8, 4, 5, 5)"),
        (torch.ones(8, 1, 3, 3), torch.ones(16, 1, 5, 5), "shape"),
        (torch.ones(3), torch.ones(4), "shape"),
    ],
    ids=["even kernel", "no depthwise kernel", "other channels", "vector"],
)
def test_other_shapes_are_left(value, target, reason):
    fitted, why = fit("layer.weight", value, target)
    assert fitted is None and reason in why


def test_attention_biases_are_interpolated_with_aligned_ends():
    table = torch.arange(4.0)[:, None] * 2 + torch.arange(4.0)  # linear, so that the right values are known
    resized, how = fit("attn.attention_biases", table.flatten()[None].repeat(3, 1), torch.empty(3, 49))
    expected = torch.linspace(0, 3, 7)[:, None] * 2 + torch.linspace(0, 3, 7)
    assert torch.allclose(resized.view(3, 7, 7), expected.expand(3, 7, 7), atol=1e-6)
    assert how == "window 4x4 interpolated to 7x7"
    assert fit("attn.attention_biases", torch.ones(3, 15), torch.empty(3, 49))[0] is None


@pytest.mark.parametrize(
    "name",
    ["decoder.enc_score_head.weight", "model.9.dec_score_head.2.bias", "model.9.one_to_many.score.layers.1.bias"],
)
def test_class_rows_are_matched_by_name(name):
    classes = match_classes({0: "Cat", 1: "dog", 2: "traffic_light"}, {0: "traffic light", 1: "horse", 2: "cat"})
    target = torch.zeros(3, 4) if name.endswith("weight") else torch.zeros(3)
    value = torch.tensor([1.0, 2.0, 3.0]).view(-1, *[1] * (target.ndim - 1)).expand_as(target)
    moved, how = fit(name, value, target, classes)
    assert moved.flatten(1).amax(1).tolist() == [3.0, 0.0, 1.0] if target.ndim > 1 else moved.tolist() == [3, 0, 1]
    assert how == "2 of 3 classes by name"


def test_class_rows_with_other_counts_or_no_common_class():
    value, name = torch.tensor([[1.0], [2.0]]), "denoising_class_embed.weight"
    fewer, other, same = (match_classes({0: "cat", 1: "dog"}, n) for n in ({0: "dog"}, {0: "x"}, {0: "Cat", 1: "dog"}))
    assert fit(name, value, torch.zeros(1, 1), fewer)[0].tolist() == [[2.0]]
    assert fit(name, value, torch.zeros(1, 1), other) == (None, "the model has none of the file's classes")
    assert fit(name, value, torch.zeros(2, 1), same) == (value, "")
