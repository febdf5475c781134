import platform

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ultralytics.nn.accelerate import linear as module
from ultralytics.nn.accelerate.linear import ChannelsFirstLinear, ConvolutionLinear, linear

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


def trained(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the output and the gradients of the input and the parameters."""
    x = x.clone().requires_grad_()
    out = layer(x)
    out.square().sum().backward()
    return [out, x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kind", "dtype", "shape"), [
    (ConvolutionLinear, torch.float32, (1, 256, 1, 140)),
    (ChannelsFirstLinear, torch.float32, (2, 256, 1, 70)),
    (ChannelsFirstLinear, torch.float64, None),
])  # fmt: skip
def test_outputs_and_gradients_equal_those_of_nn_linear(convolution, convolutions, kind, dtype, shape, transposed):
    torch.manual_seed(0)
    layer, plain = kind(256, 128).to(dtype), nn.Linear(256, 128).to(dtype)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 256, 70).transpose(1, 2) if transposed else torch.randn(LARGE)
    ours, expected = trained(layer, x.to(dtype)), trained(plain, x.to(dtype))
    assert convolutions == [shape] * (shape is not None)
    if kind is ConvolutionLinear or transposed:
        assert (ours[0] if kind is ConvolutionLinear else ours[0].transpose(1, 2)).is_contiguous()
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


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


def test_exported_and_traced_graphs_have_a_linear_layer(convolution):
    layer, x = ConvolutionLinear(256, 128), torch.randn(LARGE)
    exported = torch.export.export(layer, (x,))
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert called == {"aten.linear.default"}
    traced = torch.jit.trace(layer, x)
    assert "linear" in str(traced.inlined_graph)
    assert "conv" not in str(traced.inlined_graph)


@pytest.mark.parametrize(
    ("capability", "vendor", "expected"),
    [("AVX512", "AuthenticAMD", True), ("AVX2", "AuthenticAMD", False), ("AVX512", "GenuineIntel", False)],
)
@pytest.mark.parametrize("linux", [True, False])
def test_which_processors(monkeypatch, tmp_path, linux, capability, vendor, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: f"AMD64 Family 25 Model 97 Stepping 2, {vendor}")
    if linux:
        module.CPUINFO.write_text(f"vendor_id\t: {vendor}\ncpu family\t: 25\n")
    assert module.mkl_lacks_avx512.__wrapped__() is expected
