import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ultralytics.nn.accelerate import linear as module
from ultralytics.nn.accelerate.linear import (
    ChannelsFirstLinear,
    ConvolutionLinear,
    faster_as_convolution,
    linear,
)

AMD = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\n"
LARGE, SMALL = (2, 70, 256), (2, 7, 256)  # rows of x; with 128 outputs more and fewer multiplications than SMALLEST


@pytest.fixture
def convolution(monkeypatch):
    """Pretend to be a processor on which convolutions are faster, with two threads."""
    monkeypatch.setattr(module, "mkl_lacks_avx512", lambda: True)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def convolutions(monkeypatch):
    """Record the input shapes of all convolutions."""
    shapes, conv2d = [], F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, *args: shapes.append(tuple(x.shape)) or conv2d(x, *args))
    return shapes


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_equal_those_of_nn_linear(convolution, convolutions, bias, transposed):
    torch.manual_seed(0)
    layer = ConvolutionLinear(256, 128, bias=bias)
    plain = nn.Linear(256, 128, bias=bias)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 256, 70).transpose(1, 2) if transposed else torch.randn(LARGE)
    x, same = x.clone().requires_grad_(), x.clone().requires_grad_()
    upstream = torch.randn(2, 70, 128)

    out, expected = layer(x), plain(same)
    out.backward(upstream)
    expected.backward(upstream)

    assert convolutions == [(1, 256, 1, 140)]
    assert out.is_contiguous()
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad, same.grad, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_first_is_the_same_product_in_another_layout(convolution, convolutions, dtype):
    torch.manual_seed(0)
    layer, plain = ChannelsFirstLinear(256, 128).to(dtype), nn.Linear(256, 128).to(dtype)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 256, 70, dtype=dtype).transpose(1, 2).requires_grad_()
    same = x.detach().clone().requires_grad_()
    out, expected = layer(x), plain(same)
    out.square().sum().backward()
    expected.square().sum().backward()
    assert len(convolutions) == (dtype == torch.float32) and out.transpose(1, 2).is_contiguous()
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(x.grad, same.grad, rtol=1e-5, atol=1e-3)
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.randn(SMALL), torch.randn(128, 256)),
        (torch.randn(LARGE, dtype=torch.float64), torch.randn(128, 256, dtype=torch.float64)),
        (torch.randn(LARGE, dtype=torch.bfloat16), torch.randn(128, 256, dtype=torch.bfloat16)),
        (torch.randn(LARGE, device="meta"), torch.randn(128, 256, device="meta")),
    ],
    ids=["small", "float64", "bfloat16", "meta"],
)
def test_other_products_are_computed_by_torch(convolution, convolutions, x, weight):
    assert linear(x, weight).shape == (*x.shape[:-1], 128)
    assert not convolutions


def test_one_thread_computes_with_torch(convolution, convolutions):
    torch.set_num_threads(1)
    linear(torch.randn(LARGE), torch.randn(128, 256))
    assert not convolutions


def test_exported_and_traced_graphs_have_a_linear_layer(convolution):
    layer, x = ConvolutionLinear(256, 128), torch.randn(LARGE)
    exported = torch.export.export(layer, (x,))
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert called == {"aten.linear.default"}
    traced = torch.jit.trace(layer, x)
    assert "linear" in str(traced.inlined_graph)
    assert "conv" not in str(traced.inlined_graph)


@pytest.mark.parametrize(
    ("capability", "text", "expected"),
    [
        ("AVX512", AMD, True),
        ("AVX2", AMD, False),
        ("AVX512", "vendor_id\t: GenuineIntel\n", False),
        ("AVX512", "AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD", True),
    ],
)
def test_which_processors(monkeypatch, capability, text, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(module, "processor", lambda: text)
    assert module.mkl_lacks_avx512.__wrapped__() is expected


def test_a_torch_without_mkl_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert module.mkl_lacks_avx512.__wrapped__() is False


def test_the_choice_is_made_at_every_call(convolution):
    layer = copy.deepcopy(ConvolutionLinear(256, 128))
    assert faster_as_convolution(torch.randn(LARGE), layer.weight)
    assert not faster_as_convolution(torch.randn(LARGE), layer.double().weight)
