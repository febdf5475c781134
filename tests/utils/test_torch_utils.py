"""Devices, seeds, mixed precision, torch.compile, EMA, and BatchNorm layers that get one image."""

import copy
import logging
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from ultralytics.utils.errors import DeviceError
from ultralytics.utils.torch_utils import (
    ModelEMA,
    accept_batches_of_one,
    autocast,
    compiled,
    count_devices,
    deterministic_algorithms,
    half_dtype,
    init_seeds,
    select_device,
    unwrap_model,
)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_devices(two_gpus):
    for device in ("", None, "0", 0, "cuda", "cuda:0", [0], "[0]", torch.device("cuda", 0)):
        assert select_device(device) == torch.device("cuda:0")
    assert select_device("1") == torch.device("cuda:1")
    assert select_device("CPU") == select_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["0", 3, "cuda:1", "0,1", [1, 0], "9999"])
def test_without_gpu(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device(None) == torch.device("cpu")
    with pytest.raises(DeviceError, match=r"device=.*no CUDA device is available.*use device='cpu'") as caught:
        select_device(device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("2", "2 CUDA device.s., from 0, are available"),
        ("0,1", "only training supports several devices"),
        ([0, 1], "only training supports several devices"),
        ("gpu1", "expected 'cpu', 'mps' or a GPU index"),
        (-1, "expected 'cpu', 'mps' or a GPU index"),
    ],
)
def test_invalid_devices(two_gpus, device, message):
    with pytest.raises(DeviceError, match=message):
        select_device(device)


def test_seeds_reproduce_and_all_of_several_are_used():
    draws = []
    for seeds in ((1, 2, 3), (1, 2, 3), (1, 2, 4), (1, 3, 2), (0, 2, 3)):
        init_seeds(*seeds)
        draws.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert draws[0] == draws[1] and len(set(draws)) == 4


def test_mixed_precision_is_off_on_cpu():
    assert half_dtype(torch.device("cpu")) is None
    with autocast(torch.device("cpu"), half_dtype(torch.device("cpu"))):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with autocast(torch.device("cpu"), torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(("able", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_half_dtype_of_a_gpu(monkeypatch, able, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able and not including_emulation)
    assert half_dtype(torch.device("cuda")) is dtype


def test_each_process_gets_its_own_device(monkeypatch, two_gpus):
    assert [count_devices(d) for d in (None, "cpu", "0", "0,1", [0, 1, 2], "cpu,cpu")] == [1, 1, 1, 2, 3, 2]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert select_device("1,0") == torch.device("cuda:0")
    assert select_device(None) == torch.device("cuda:1")
    assert select_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(DeviceError, match="2 devices for process 3"):
        select_device("0,1")


@pytest.mark.parametrize("enabled", [True, False])
def test_deterministic_algorithms_are_restored(enabled):
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    with deterministic_algorithms(enabled):
        assert torch.are_deterministic_algorithms_enabled() == torch.backends.cudnn.deterministic == enabled
        assert torch.is_deterministic_algorithms_warn_only_enabled() == enabled
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == before


def test_unwrap_model():
    model = torch.nn.Linear(1, 1)
    assert unwrap_model(torch.nn.DataParallel(torch.compile(model))) is model
    assert unwrap_model(model) is model


def test_ema_follows_its_definition():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.append(model[0])  # shared weights have two names, and are updated once
    ema = ModelEMA(model, decay=0.9, tau=5)
    expected = model[0].weight.detach().clone()
    for update in range(1, 6):
        with torch.no_grad():
            model[0].weight.add_(1.0)
            model[1].num_batches_tracked.add_(1)
        assert ema.update()
        decay = 0.9 * (1 - math.exp(-update / 5))
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
    torch.testing.assert_close(ema.ema[0].weight, expected)
    assert ema.ema[1].num_batches_tracked == 5
    assert not ema.ema.training
    assert not any(parameter.requires_grad for parameter in ema.ema.parameters())


def test_ema_rejects_non_finite_weights():
    model = nn.BatchNorm1d(3)
    ema = ModelEMA(model)
    before = {name: value.clone() for name, value in ema.ema.state_dict().items()}
    model.running_var[0] = float("inf")
    assert not ema.update(model) and ema.updates == 0
    with pytest.raises(ValueError, match="another model"):
        ema.update(nn.Linear(2, 2))
    assert all(torch.equal(value, before[name]) for name, value in ema.ema.state_dict().items())


def test_exported_model_is_not_compiled(caplog):
    model = nn.Module()
    with caplog.at_level(logging.WARNING, logger="ultralytics"):
        assert compiled(model) is model
    assert "no effect on an exported model" in caplog.text


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
    norm = nn.BatchNorm2d(4, track_running_stats=False)  # has no running statistics to take
    assert accept_batches_of_one(norm) == 0
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(torch.randn(1, 4, 1, 1))


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
