"""Devices, seeds, random states; callbacks."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from ultralytics.utils.callbacks import EVENTS, Callbacks
from ultralytics.utils.errors import DeviceError, OptionError
from ultralytics.utils.torch_utils import (
    autocast,
    deterministic_algorithms,
    get_rng_state,
    init_seeds,
    select_device,
    set_rng_state,
)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("device", ["", None, "0", 0, "cuda", "cuda:0", [0], "[0]", torch.device("cuda", 0)])
def test_names_of_the_first_gpu(two_gpus, device):
    assert select_device(device) == torch.device("cuda:0")


def test_other_devices(two_gpus):
    assert select_device("1") == torch.device("cuda:1")
    assert select_device("CPU") == torch.device("cpu")
    assert select_device(torch.device("cpu")) == torch.device("cpu")


def test_none_is_the_cpu_where_there_is_no_gpu(no_gpu):
    assert select_device(None) == torch.device("cpu")


@pytest.mark.parametrize("device", ["0", 3, "cuda:1"])
def test_a_gpu_that_is_not_there(no_gpu, device):
    with pytest.raises(DeviceError, match=r"device=.*no CUDA device is visible.*write device='cpu'") as caught:
        select_device(device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("2", "2 CUDA device.s. visible, numbered 0 to 1"),
        ("0,1", "several devices are not supported yet"),
        ([0, 1], "several devices are not supported yet"),
        ("gpu1", "expected 'cpu', 'mps', or the number"),
        (-1, "expected 'cpu', 'mps', or the number"),
    ],
)
def test_devices_that_cannot_be(two_gpus, device, message):
    with pytest.raises(DeviceError, match=message):
        select_device(device)


def draw() -> tuple:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_seeds_repeat():
    init_seeds(7)
    first = draw()
    init_seeds(7)
    assert draw() == first


def test_random_state_survives_a_file(tmp_path):
    init_seeds(1)
    draw()
    torch.save(get_rng_state(), tmp_path / "rng.pt")
    expected = draw()
    set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert draw() == expected


def test_mixed_precision_is_off_on_the_cpu():
    with autocast(torch.device("cpu"), enabled=True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_callbacks_run_in_order():
    seen = []
    callbacks = Callbacks({"on_train_start": lambda source: seen.append(("first", source))})
    callbacks.add("on_train_start", lambda source: seen.append(("second", source)))
    extended = callbacks.copy()
    extended.add("on_train_start", lambda source: seen.append(("third", source)))
    callbacks.run("on_train_start", "trainer")
    assert seen == [("first", "trainer"), ("second", "trainer")]
    callbacks.clear()
    assert not any(callbacks[event] for event in EVENTS)
    assert len(extended["on_train_start"]) == 3


def test_an_unknown_event_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match="did you mean 'on_train_epoch_end'"):
        Callbacks().add("on_train_epoch_ended", print)
    with pytest.raises(OptionError, match="expected a function, got 3"):
        Callbacks().add("on_train_start", 3)


@pytest.mark.parametrize("enabled", [True, False])
def test_deterministic_algorithms_end_with_the_block(enabled):
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    with deterministic_algorithms(enabled):
        assert torch.are_deterministic_algorithms_enabled() == torch.backends.cudnn.deterministic == enabled
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == before
