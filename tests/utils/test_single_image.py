"""BatchNorm layers in training that get one image."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ultralytics.utils.torch_utils import accept_batches_of_one


def squeeze() -> nn.Module:
    """Global pooling with BatchNorm, as in squeeze-and-excitation blocks."""
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())


def test_torch_refuses_and_we_take_the_running_statistics():
    image = torch.randn(1, 3, 8, 8)
    model = squeeze().train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(image)
    model[2].running_mean.fill_(-0.3)
    assert accept_batches_of_one(model) == 1
    before = copy.deepcopy(model[2].state_dict())
    out = model(image)
    out.sum().backward()
    assert model[1].weight.grad.abs().sum() > 0 and model[2].training
    assert all(torch.equal(before[key], value) for key, value in model[2].state_dict().items())
    assert torch.equal(out, model.eval()(image))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 3, 8, 8)])
def test_other_batches_are_normalised_as_before(shape):
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    ours = copy.deepcopy(plain)
    accept_batches_of_one(ours)
    images = torch.randn(shape)
    assert torch.equal(plain(images), ours(images))
    assert torch.equal(plain[1].running_var, ours[1].running_var) and ours[1].num_batches_tracked == 1


def test_frozen_copied_and_repeated():
    model = squeeze().train()
    model[2].eval()  # a frozen layer stays as it is
    assert accept_batches_of_one(model) == accept_batches_of_one(model) == 1
    model(torch.randn(1, 3, 4, 4))
    assert not model[2].training and len(model[2]._forward_pre_hooks) == 1
    twin = copy.deepcopy(model).train()  # as the averaged weights are made
    twin(torch.randn(1, 3, 4, 4))
    assert twin[2].training and "_single_value" not in twin[2].__dict__


def test_layers_without_running_statistics_still_refuse():
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    assert accept_batches_of_one(norm) == 0
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(torch.randn(1, 4, 1, 1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tokens_before", [True, False])
def test_gradients_of_one_image_are_right_whatever_their_layout(training, tokens_before):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8).train(training)
    exact = copy.deepcopy(norm).double()
    accept_batches_of_one(norm)
    image, gradient = torch.randn(1, 8, 4, 4), torch.randn(1, 16, 8)
    if tokens_before:  # the map comes from tokens, and a plain gradient meets it
        image = torch.randn(1, 16, 8).transpose(1, 2).unflatten(2, (4, 4))
    image, twin = image.requires_grad_(), image.detach().double().contiguous().requires_grad_()
    back = gradient.transpose(1, 2).unflatten(2, (4, 4))  # as through `flatten(2).transpose(1, 2)`
    norm(image).backward(back.contiguous() if tokens_before else back)
    exact(twin).backward(back.double().contiguous())
    assert torch.allclose(image.grad.double(), twin.grad, atol=1e-5)
    assert torch.allclose(norm.weight.grad.double(), exact.weight.grad, atol=1e-4)
