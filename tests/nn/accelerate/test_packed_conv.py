import copy
import pickle

import pytest
import torch
from torch import nn

from ultralytics.nn.accelerate.packed_conv import PackedConv2d, has_operator

pytestmark = pytest.mark.skipif(not has_operator(), reason="no oneDNN on x86")
LAYERS = {
    "1x1": lambda: nn.Conv2d(16, 24, 1),
    "3x3, stride 2, no bias": lambda: nn.Conv2d(16, 24, 3, 2, 1, bias=False),
    "depthwise 5x5": lambda: nn.Conv2d(16, 16, 5, 1, 2, groups=16),
    "groups and dilation": lambda: nn.Conv2d(16, 32, (3, 1), 1, (2, 0), (2, 1), groups=2),
}


def pair(name="1x1"):
    """Return a frozen layer and an accelerated copy."""
    torch.manual_seed(0)
    layer = LAYERS[name]().requires_grad_(False)
    fast = copy.deepcopy(layer)
    assert PackedConv2d.applies(fast)
    fast.__class__ = PackedConv2d
    return layer, fast


@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_equal_those_of_torch(name, threads, monkeypatch):
    layer, fast = pair(name)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for x in (torch.randn(1, 16, 33, 20), torch.randn(3, 16, 9, 9), torch.randn(2, 20, 8, 8)[:, 4:]):
        for image in (x, x.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(fast(image), layer(image), rtol=1e-5, atol=1e-5)
    torch.set_num_threads(before)
    assert fast(x[:0]).shape == layer(x[:0]).shape


@torch.no_grad()
def test_changed_weights_are_packed_again_and_copies_are_plain_data():
    layer, fast = pair()
    x = torch.randn(1, 16, 8, 8)
    fast(x)
    for weight in (layer.weight, fast.weight):
        weight.mul_(2)
    for same in (fast, copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        torch.testing.assert_close(same(x), layer(x), rtol=1e-5, atol=1e-5)
    assert list(fast.state_dict()) == list(layer.state_dict())


def test_gradients_of_the_image_and_traces_are_those_of_the_plain_layer():
    layer, fast = pair()
    x = torch.randn(1, 16, 8, 8, requires_grad=True)
    ours, expected = (torch.autograd.grad(conv(x).square().sum(), x)[0] for conv in (fast, layer))
    assert torch.equal(ours, expected)
    with torch.no_grad():
        assert "mkldnn::" not in str(torch.jit.trace(fast, x).graph)


def test_other_types_and_paddings_are_left_alone():
    for layer in (nn.Conv2d(4, 4, 1).double(), nn.Conv2d(4, 4, 3, padding="same")):
        assert not PackedConv2d.applies(layer)
