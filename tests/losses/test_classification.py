"""Class losses against their formulas, written here element by element in float64."""

import itertools
import math

import pytest
import torch

from ultralytics.losses.classification import CLASS_LOSSES

ALPHA, GAMMA = 0.25, 1.5


def mal(p: float, q: float | None, weight: float) -> float:
    """DEIM's formula; q is None for a negative, whose weight p^gamma is given."""
    if q is None:
        return -weight * math.log(1 - p)
    return -(q**GAMMA) * math.log(p) - (1 - q**GAMMA) * math.log(1 - p)


def vfl(p: float, q: float | None, weight: float) -> float:
    if q is None:
        return -ALPHA * weight * math.log(1 - p)
    return -q * (q * math.log(p) + (1 - q) * math.log(1 - p))


def focal(p: float, q: float | None, weight: float) -> float:
    if q is None:
        return -(1 - ALPHA) * weight * math.log(1 - p)
    balance = ALPHA * q + (1 - ALPHA) * (1 - q)
    return -balance * abs(q - p) ** GAMMA * (q * math.log(p) + (1 - q) * math.log(1 - p))


FORMULAS = {"mal": mal, "vfl": vfl, "focal": focal}


def example() -> tuple[torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    positives = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 3, 1, 2]), torch.tensor([2, 0, 1, 1])
    return logits, positives, torch.tensor([0.0, 0.03, 0.6, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("kind", FORMULAS)
def test_values_are_those_of_the_formula(kind):
    logits, positives, quality = example()
    of = dict(zip(zip(*(p.tolist() for p in positives), strict=True), quality.tolist(), strict=True))
    loss = CLASS_LOSSES[kind](logits, positives, quality, ALPHA, GAMMA)
    for index in itertools.product(*map(range, logits.shape)):
        p = 1 / (1 + math.exp(-logits[index].item()))
        assert loss[index].item() == pytest.approx(FORMULAS[kind](p, of.get(index), p**GAMMA), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["vfl", "focal"])
def test_gradients_agree_with_differences(kind):
    logits, positives, quality = example()
    assert torch.autograd.gradcheck(
        lambda z: CLASS_LOSSES[kind](z, positives, quality, ALPHA, GAMMA), logits.requires_grad_()
    )


def test_gradient_of_mal_is_that_of_cross_entropies_with_constant_weights():
    logits, positives, quality = example()
    target = torch.zeros_like(logits).index_put(positives, quality**GAMMA)
    weight = (logits.sigmoid() ** GAMMA).index_put(positives, torch.ones_like(quality))
    ours = logits.clone().requires_grad_()
    CLASS_LOSSES["mal"](ours, positives, quality, ALPHA, GAMMA).sum().backward()
    assert torch.allclose(ours.grad, weight * (logits.sigmoid() - target), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", FORMULAS)
def test_certain_logits_and_no_positives_stay_finite(kind):
    nothing = (torch.zeros(0, dtype=torch.long),) * 2
    logits = torch.tensor([[-200.0, 0.0, 200.0]], requires_grad=True)
    CLASS_LOSSES[kind](logits, nothing, torch.zeros(0), ALPHA, GAMMA).sum().backward()
    assert logits.grad.isfinite().all()
