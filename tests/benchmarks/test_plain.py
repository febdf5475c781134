"""The plain version that the benchmarks compare with computes what the reference and our network do."""

import pytest
import torch
from plain import SIZES, PlainRTDETR, both

from tests.golden.fill import fill
from tests.golden.inputs import image, train_batch
from tests.golden.models import MODELS, check_predictions
from ultralytics.nn.tasks import RTDETRDetectionModel


@pytest.mark.parametrize("size", SIZES)
def test_our_checkpoints_load(size):
    with torch.device("meta"):
        plain, ours = PlainRTDETR(size, nc=7), RTDETRDetectionModel(f"rtdetr-efficientvit-{size}.yaml", nc=7)
    plain.load_state_dict(ours.state_dict(), strict=True, assign=True)


@pytest.mark.parametrize("size", ["m0", "m3"])
def test_predictions_are_those_of_the_reference(size):
    expected = MODELS[f"rtdetr-efficientvit-{size}"]
    check_predictions(fill(PlainRTDETR(size), expected["gain"]), expected)


def test_losses_and_gradients_are_those_of_our_network_in_float64():
    """Denoising queries included: both draw the same noise."""
    batch = {key: torch.from_numpy(value).double() for key, value in train_batch(0, 96, 64).items()}
    ours = fill(RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=80), 1.5).double().train()
    plain = PlainRTDETR("m0").double().train()
    plain.load_state_dict(ours.state_dict())
    totals, terms, gradients = [], [], []
    for model in (ours, plain):
        torch.manual_seed(0)
        total, items = model(batch)
        total.backward()
        totals.append(total.item())
        terms.append(items)
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert totals[1] == pytest.approx(totals[0], rel=1e-4)
    torch.testing.assert_close(terms[1], terms[0], rtol=1e-4, atol=0)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        worst = (gradients[1][name] - gradient).abs().max()
        assert worst <= 1e-4 * gradient.abs().max() + 1e-9, name
    for name, value in ours.state_dict().items():  # the running statistics moved alike
        torch.testing.assert_close(plain.state_dict()[name], value, rtol=1e-4, atol=1e-9)


@torch.no_grad()
def test_both_sides_of_a_comparison_have_the_same_weights_none_of_them_zero():
    ours, plain = both("m0", nc=3)
    assert all(parameter.any() for parameter in ours.parameters())
    x = torch.from_numpy(image(1, 96, 64))
    (y, extras), (expected, wanted) = ours(x), plain(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(extras[3], wanted[3], rtol=1e-4, atol=1e-4)
    assert y[..., 4:].std() > 1e-3  # positions differ in what they see
