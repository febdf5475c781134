"""Activations that compute their input again for the backward pass: same results, less kept."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from ultralytics.nn.accelerate import silu as module
from ultralytics.nn.accelerate.silu import activate
from ultralytics.nn.modules import Conv, RepConv
from ultralytics.nn.modules.conv import Conv2

LAYERS = {
    "Conv": lambda: Conv(16, 32, 3),
    "Conv2": lambda: Conv2(16, 32, 3),
    "RepConv": lambda: RepConv(16, 32),
    "RepConv with identity": lambda: RepConv(16, 16, bn=True),
}


@pytest.fixture
def keep_all(monkeypatch):
    """Switches to torch's way, which keeps the input of every activation."""
    return lambda: monkeypatch.setattr(module, "SMALLEST", float("inf"))


def image(dtype=torch.float32):
    return torch.randn(2, 16, 72, 72, generator=torch.Generator().manual_seed(0), dtype=dtype)  # above SMALLEST


def trained_once(layer, x):
    """Output, gradient of the input, gradients of the parameters and buffers after a step forward and backward."""
    x = x.clone().requires_grad_()
    out = layer(x)
    out.backward(torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view_as(out))
    return [out.detach(), x.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]


def bytes_kept(layer, x):
    """Bytes of all tensors that a forward keeps, each counted once."""
    kept = {}
    with saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.numel() * t.element_size()}) or t, lambda t: t):
        out = layer(x)
    return sum(kept.values()), out


@pytest.mark.parametrize("mode", ["training", "frozen statistics", "no running statistics"])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_gradients_and_statistics_are_bit_for_bit_those_of_torch(name, mode, keep_all):
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
    same = copy.deepcopy(layer)
    ours = trained_once(layer, image())
    keep_all()
    torchs = trained_once(same, image())
    assert len(ours) == len(torchs)
    for a, b in zip(ours, torchs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("name", "maps"), [("Conv", 1), ("RepConv", 1)])
def test_a_map_less_is_kept(name, maps, keep_all):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    x = image().requires_grad_()
    ours, out = bytes_kept(layer, x)
    keep_all()
    torchs, _ = bytes_kept(layer, x)
    # Our hooks are the inner ones: what they replace is not seen by those that count.
    assert torchs - ours == maps * out.numel() * out.element_size()


def test_mixed_precision_computes_the_same_input_again(keep_all):
    """The backward pass runs outside autocast; maps are bfloat16, weights float32."""

    def gradients(layer):
        x = image().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert out.dtype is torch.bfloat16
        return torch.autograd.grad(out.float().square().sum(), [x, *layer.parameters()])

    torch.manual_seed(0)
    layer = RepConv(16, 32)
    ours = gradients(layer)
    keep_all()
    for a, b in zip(ours, gradients(layer), strict=True):
        assert torch.equal(a, b)


def test_gradients_of_gradients_pass_through(keep_all):
    """The input is computed again with its graph where the backward pass is differentiated, too."""

    def penalty(layer):
        x = image(torch.float64).requires_grad_()
        (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), [x, *layer.parameters()])

    torch.manual_seed(0)
    layer = Conv(16, 32, 3).double()
    ours = penalty(layer)
    keep_all()
    for a, b in zip(ours, penalty(layer), strict=True):
        torch.testing.assert_close(a, b)


def test_other_activations_and_normalisations_keep_what_torch_keeps(keep_all):
    x = image().requires_grad_()
    for act, norm in ((nn.GELU(), nn.BatchNorm2d(16)), (nn.SiLU(), nn.GroupNorm(4, 16)), (nn.SiLU(), nn.Identity())):
        assert not module.recomputable(act, ((norm, x),))
        torch.testing.assert_close(activate(act, (norm, x)), act(norm(x)))
    with torch.no_grad():
        assert not module.recomputable(nn.SiLU(), ((nn.BatchNorm2d(16), x),))
