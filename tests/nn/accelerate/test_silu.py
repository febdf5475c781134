import copy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from ultralytics.nn.accelerate import for_training
from ultralytics.nn.modules.conv import Conv, RepConv

LAYERS = {
    "Conv": lambda: Conv(16, 32, 3),
    "RepConv": lambda: RepConv(16, 32),
    "RepConv with identity": lambda: RepConv(16, 16, bn=True),
}


def pair(name, mode="training"):
    """Return a layer and an accelerated copy."""
    torch.manual_seed(0)
    layer = LAYERS[name]()
    for norm in (m for m in layer.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
        if mode == "frozen statistics":
            norm.eval()
        elif mode == "no running statistics":
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
            norm.track_running_stats = False
    fast = copy.deepcopy(layer)
    assert for_training(fast) == ["1 SiLU recomputed"]
    return layer, fast


def image(dtype=torch.float32):
    return torch.randn(2, 16, 72, 72, generator=torch.Generator().manual_seed(0), dtype=dtype)  # above SMALLEST


def trained_once(layer, x):
    """Return output, gradients of input and parameters, and buffers after a forward and backward pass."""
    x = x.clone().requires_grad_()
    out = layer(x)
    out.backward(torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view_as(out))
    return [out.detach(), x.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]


def bytes_kept(layer, x):
    """Count the bytes of all tensors that a forward keeps, each once."""
    kept = {}
    with saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.numel() * t.element_size()}) or t, lambda t: t):
        out = layer(x)
    return sum(kept.values()), out


@pytest.mark.parametrize("mode", ["training", "frozen statistics", "no running statistics"])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_gradients_and_statistics_are_equal(name, mode):
    layer, fast = pair(name, mode)
    for a, b in zip(trained_once(layer, image()), trained_once(fast, image()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * a.abs().max().item())


@pytest.mark.parametrize("name", ["Conv", "RepConv"])
def test_one_map_less_is_kept(name):
    layer, fast = pair(name)
    x = image().requires_grad_()
    ours, out = bytes_kept(fast, x)  # our hooks are the inner ones: what they replace is not counted
    torchs, _ = bytes_kept(layer, x)
    assert torchs - ours == out.numel() * out.element_size()


def test_mixed_precision_recomputes_the_same_input():
    """The backward pass runs outside autocast; maps are bfloat16, weights float32."""

    def gradients(layer):
        x = image().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert out.dtype is torch.bfloat16
        return torch.autograd.grad(out.float().square().sum(), [x, *layer.parameters()])

    layer, fast = pair("RepConv")
    for a, b in zip(gradients(layer), gradients(fast), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("act", "norm"), [(nn.GELU(), nn.BatchNorm2d(16)), (nn.SiLU(), nn.GroupNorm(4, 16))])
def test_other_activations_and_norms_are_left_alone(act, norm):
    layer = Conv(16, 16)
    layer.act, layer.bn = act, norm
    assert for_training(layer) == [] and type(layer) is Conv


@torch.no_grad()
def test_without_gradients_nothing_is_recomputed():
    layer, fast = pair("Conv")
    assert bytes_kept(fast, image())[0] == bytes_kept(layer, image())[0] == 0


def test_maps_after_the_first_layer_are_channels_last_and_gradients_stay():
    torch.manual_seed(0)
    layers = nn.Sequential(Conv(16, 8, 3), Conv(8, 8)).double()
    layers[0].i = 0
    fast = copy.deepcopy(layers)
    assert for_training(fast) == ["1 channels-last input", "1 SiLU recomputed"]
    assert fast(image(torch.float64)).is_contiguous(memory_format=torch.channels_last)
    fast = copy.deepcopy(layers)
    for_training(fast)
    for ours, expected in zip(*(trained_once(m, image(torch.float64)) for m in (fast, layers)), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
