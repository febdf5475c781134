import copy

import pytest
import torch
from torch import nn

from ultralytics.nn.accelerate import for_training
from ultralytics.nn.accelerate.decoder_training import SplitSelfAttention, first_separate


def mask_of(name: str) -> torch.Tensor | None:
    """Return a mask of 7 queries, the first 4 for denoising; True = may not attend."""
    denoising = torch.zeros(7, 7, dtype=torch.bool)
    denoising[4:, :4] = denoising[:2, 2:4] = denoising[2:4, :2] = True
    scattered = torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) < 0.4
    masks = {"none": None, "denoising": denoising, "scattered": scattered & ~torch.eye(7, dtype=torch.bool)}
    return {**masks, "float": torch.where(denoising, -1.5, 0.5).double()}[name]


def pair() -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(8, 2, batch_first=True).double()
    nn.init.normal_(plain.in_proj_bias)
    fast = copy.deepcopy(plain)
    assert for_training(fast) == ["1 self-attentions split"] and type(fast) is SplitSelfAttention
    return plain, fast


@pytest.mark.parametrize("mask", ["none", "denoising", "scattered", "float"])
def test_outputs_and_gradients_equal_those_of_torch(mask):
    results = []
    for attention in pair():
        tokens = torch.linspace(0, 9, 112, dtype=torch.float64).sin().view(2, 7, 8).requires_grad_()
        q = tokens + 0.1
        y = attention(q, q, tokens, attn_mask=mask_of(mask), need_weights=False)[0]
        (y * y).sum().backward()
        results.append((y, tokens.grad, *(p.grad for p in attention.parameters())))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_other_calls_are_passed_to_torch():
    plain, fast = (attention.eval().float() for attention in pair())
    tokens, other = torch.rand(2, 7, 8), torch.rand(2, 5, 8)
    each_head = torch.zeros(4, 7, 7).index_fill(2, torch.tensor([1]), float("-inf"))
    calls = (
        ((tokens, other, other), {}),
        ((tokens, tokens, tokens), {"key_padding_mask": torch.arange(7).expand(2, 7) > 4}),
        ((tokens, tokens, tokens), {"attn_mask": each_head, "need_weights": False}),
        ((tokens[0], tokens[0], tokens[0]), {"need_weights": False}),
    )
    for tensors, options in calls:
        for a, b in zip(fast(*tensors, **options), plain(*tensors, **options), strict=True):
            assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("options", [{"batch_first": False}, {"bias": False}, {"kdim": 4}, {"add_zero_attn": True}])
def test_other_forms_are_left_alone(options):
    attention = nn.MultiheadAttention(8, 2, **{"batch_first": True, **options})
    assert for_training(attention) == [] and type(attention) is nn.MultiheadAttention


def test_separate_queries_are_found():
    denoising = mask_of("denoising")
    assert first_separate(denoising) == 4
    leak, gap = denoising.clone(), denoising.clone()
    leak[5, 0], gap[4, 6] = False, True
    nothing = torch.ones(7, 7, dtype=torch.bool)
    assert [first_separate(mask) for mask in (leak, gap, nothing, ~nothing, mask_of("scattered"))] == [0] * 5
