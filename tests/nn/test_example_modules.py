"""The example modules: stated channels, any size, formulas and model files; `test_module_check.py` has the rest."""

import copy
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.golden.inputs import train_batch
from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.nn.parser import build_module
from ultralytics.nn.plans import RowContext
from ultralytics.nn.registry import resolve_module
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.flops import get_flops

DOCS = Path(__file__).parents[2] / "docs"
MODELS = {
    "se": "SEAttention", "coordatt": "CoordAtt", "star": "StarC3", "lka": "LKA",
    "carafe": "CARAFE", "bifpn": "WeightedAdd", "faster": "FasterC3", "ema": "EMA",
}  # fmt: skip
CASES = {  # module, the row's arguments, channels of the inputs, repeats, output channels
    "SEAttention": ("SEAttention", (16,), (32,), 1, 32), "SEAttention-few": ("SEAttention", (), (6,), 1, 6),
    "CoordAtt": ("CoordAtt", (32,), (24,), 1, 24),
    "StarBlock": ("StarBlock", (3,), (16,), 1, 16), "StarC3": ("StarC3", (32, 0.5), (48,), 2, 32),
    "LKA": ("LKA", (), (16,), 1, 16), "LKA-small": ("LKA", (5, 1), (16,), 1, 16),
    "CARAFE": ("CARAFE", (), (16,), 1, 16), "CARAFE-3": ("CARAFE", (3, 1, 3, 8), (5,), 1, 5),
    "WeightedAdd": ("WeightedAdd", (), (8, 8, 8), 1, 8),
    "PConv": ("PConv", (), (18,), 1, 18),
    "FasterBlock": ("FasterBlock", (), (16,), 2, 16), "FasterC3": ("FasterC3", (32, 0.5), (48,), 2, 32),
    "EMA": ("EMA", (8,), (32,), 1, 32),
}  # fmt: skip
SIZES = [(1, 8, 8), (2, 7, 5), (1, 1, 6), (3, 20, 9)]  # batch, height, width
every_case = pytest.mark.parametrize("case", CASES)


def build(case: str) -> nn.Module:
    """The layer of a row, with every parameter and statistic moved away from its start."""
    name, args, channels, repeats, _ = CASES[case]
    torch.manual_seed(0)
    return shaken(build_module(name, args, [(c, 9, 6) for c in channels], repeats))


@torch.no_grad()
def shaken(layer: nn.Module) -> nn.Module:
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point():
            tensor.add_(0.2 * torch.rand_like(tensor))
    return layer


def inputs(case: str, batch: int = 2, height: int = 9, width: int = 6) -> Tensor | list[Tensor]:
    maps = [torch.randn(batch, c, height, width) for c in CASES[case][2]]
    return maps if len(maps) > 1 else maps[0]


@every_case
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_stated_channels_are_the_real_ones_at_any_size(case, training):
    layer = build(case)
    scale = getattr(layer, "scale", 1)
    for batch, height, width in SIZES if training else [*SIZES, (1, 1, 1)]:
        y = layer.train(training)(inputs(case, batch, height, width))
        assert y.shape == (batch, CASES[case][-1], scale * height, scale * width)
        assert y.isfinite().all()


@every_case
@torch.no_grad()
def test_traced_and_exported_it_runs_at_another_size(case):
    layer, x = build(case).eval(), inputs(case)
    larger = inputs(case, 2, 13, 17)
    assert torch.allclose(torch.jit.trace(layer, (x,), check_trace=False)(larger), layer(larger), atol=1e-5)
    free = {2: torch.export.Dim("height", min=2, max=64), 3: torch.export.Dim("width", min=2, max=64)}
    shapes = ([free] * len(x),) if isinstance(x, list) else (free,)
    exported = torch.export.export(layer, (x,), dynamic_shapes=shapes, strict=False).module()
    assert torch.allclose(exported(larger), layer(larger), atol=1e-5)


def size_of(name: str, *args: object) -> int:
    return sum(p.numel() for p in resolve_module(name).build(*args).parameters())


def test_parameters_are_as_many_as_the_papers_count():
    c = 64
    assert size_of("SEAttention", c, 16) == 2 * c * c // 16
    assert size_of("LKA", c) == 7 * 7 * c + 5 * 5 * c + c * c + 3 * c  # K = 21, d = 3, and the biases
    assert size_of("CARAFE", c) == (c + 1) * 64 + (9 * 64 + 1) * 4 * 25
    assert size_of("PConv", c) == 9 * (c // 4) ** 2
    assert size_of("FasterBlock", c) == 9 * (c // 4) ** 2 + 2 * c * 2 * c + 2 * 2 * c  # and the normalisation's
    assert size_of("StarBlock", c) == 3 * 4 * c * c + 2 * 4 * c + 2 * 49 * c + c + 2 * 2 * c
    assert size_of("EMA", c, 8) == 10 * (c // 8) ** 2 + 4 * c // 8
    assert size_of("WeightedAdd", 3) == 3


@torch.no_grad()
def test_squeeze_and_excitation_is_two_linear_layers_on_the_means():
    layer, x = build("SEAttention"), inputs("SEAttention")
    w1, w2 = layer.squeeze.weight.flatten(1), layer.excite.weight.flatten(1)
    for image, y in zip(x, layer(x), strict=True):
        gate = torch.sigmoid(w2 @ torch.relu(w1 @ image.flatten(1).mean(1)))  # (C,)
        torch.testing.assert_close(y, image * gate[:, None, None])


@torch.no_grad()
def test_coordinate_attention_multiplies_a_gate_over_rows_by_one_over_columns():
    layer, x = build("CoordAtt").eval(), inputs("CoordAtt").abs() + 1
    gate, joint = layer(x) / x, layer.joint  # (B, C, H, W)
    for row, column in ((0, 0), (4, 2), (8, 5)):
        factors = 1
        for strip, conv in ((x[:, :, row].mean(2), layer.gate_h), (x[:, :, :, column].mean(2), layer.gate_w)):
            hidden = F.hardswish(joint.bn((strip @ joint.conv.weight.flatten(1).T)[..., None, None]))[..., 0, 0]
            factors = factors * torch.sigmoid(hidden @ conv.weight.flatten(1).T + conv.bias)  # (B, C)
        torch.testing.assert_close(gate[:, :, row, column], factors)


@torch.no_grad()
def test_a_star_block_multiplies_two_maps_of_the_same_features():
    layer, x = build("StarBlock").eval(), inputs("StarBlock")
    channels = x.shape[1]
    y = layer.dw1.bn(F.conv2d(x, layer.dw1.conv.weight, padding=3, groups=channels))
    products = [torch.einsum("bchw,dc->bdhw", y, f.weight.flatten(1)) for f in (layer.f1, layer.f2)]
    one, two = (p + f.bias[:, None, None] for p, f in zip(products, (layer.f1, layer.f2), strict=True))
    star = layer.g.bn(torch.einsum("bdhw,cd->bchw", one.clamp(0, 6) * two, layer.g.conv.weight.flatten(1)))
    expected = x + F.conv2d(star, layer.dw2.weight, layer.dw2.bias, padding=3, groups=channels)
    torch.testing.assert_close(layer(x), expected)


@torch.no_grad()
def test_large_kernel_attention_multiplies_and_sees_as_far_as_its_kernels_reach():
    torch.manual_seed(0)
    fresh = resolve_module("LKA").build(8)
    x = torch.randn(1, 8, 31, 31)
    assert (fresh(x) - x).abs().max() < 0.2 * x.abs().max()  # starts as nearly nothing
    layer = shaken(fresh)
    torch.testing.assert_close(layer(x) / x, layer.point(layer.long(layer.local(x))), rtol=1e-3, atol=1e-3)
    moved = x.clone()
    moved[:, :, 15, 15] += 100
    rows = ((layer(moved) - layer(x)) / x).abs().amax((0, 1, 3)).gt(1e-3).nonzero().flatten()
    assert (rows.min(), rows.max()) == (15 - 11, 15 + 11)  # 2 of the local and 9 of the dilated convolution


@torch.no_grad()
def test_carafe_weighs_the_neighbours_of_the_source_position():
    layer, x = build("CARAFE-3"), inputs("CARAFE-3", 2, 2, 3)
    logits = layer.encode(layer.compress(x))
    padded, y = F.pad(x, (1, 1, 1, 1)), layer(x)
    for row in range(6):
        for column in range(9):
            i, j = row // 3, column // 3  # the source position
            own = range(row % 3 * 3 + column % 3, 81, 9)  # this output's nine logits
            weights = logits[:, own, i, j].softmax(1).view(2, 1, 3, 3)
            expected = (padded[:, :, i : i + 3, j : j + 3] * weights).sum((2, 3))
            torch.testing.assert_close(y[:, :, row, column], expected)


@torch.no_grad()
def test_weighted_add_is_a_mean_with_weights_that_cannot_be_negative():
    layer = resolve_module("WeightedAdd").build(3)
    maps = [torch.randn(2, 4, 5, 3) for _ in range(3)]
    torch.testing.assert_close(layer(maps), torch.stack(maps).mean(0), rtol=1e-4, atol=1e-4)
    layer.weights.copy_(torch.tensor([2.0, -5.0, 6.0]))
    torch.testing.assert_close(layer.shares(), torch.tensor([0.25, 0.0, 0.75]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer(maps), (2 * maps[0] + 6 * maps[2]) / (8 + 1e-4))


@torch.no_grad()
def test_partial_convolution_passes_the_other_channels():
    layer, x = build("PConv"), inputs("PConv")
    y = layer(x)
    assert torch.equal(y[:, 4:], x[:, 4:])  # 18 // 4 = 4 are convolved
    torch.testing.assert_close(y[:, :4], F.conv2d(x[:, :4], layer.conv.weight, padding=1))


@torch.no_grad()
def test_multi_scale_attention_treats_each_group_alone_by_its_formula():
    layer, x = build("EMA"), inputs("EMA")
    y = layer(x)
    for b in range(2):
        for part, out in zip(x[b].chunk(8), y[b].chunk(8), strict=True):  # (4, H, W)
            weight, bias = layer.strip.weight.flatten(1), layer.strip.bias[:, None]
            rows, columns = ((weight @ part.mean(axis) + bias).sigmoid() for axis in (2, 1))  # (4, H), (4, W)
            gated = part * rows[:, :, None] * columns[:, None]
            mean, var = gated.mean((1, 2), keepdim=True), gated.var((1, 2), keepdim=True, unbiased=False)
            wide = (gated - mean) / (var + layer.norm.eps).sqrt()
            wide = wide * layer.norm.weight[:, None, None] + layer.norm.bias[:, None, None]
            local = F.conv2d(part[None], layer.local.weight, layer.local.bias, padding=1)[0]
            gate = torch.einsum("d,dhw->hw", wide.mean((1, 2)).softmax(0), local)
            gate = gate + torch.einsum("d,dhw->hw", local.mean((1, 2)).softmax(0), wide)
            torch.testing.assert_close(out, part * gate.sigmoid(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("SEAttention", (16, 0), "SEAttention: reduction must be a whole number from 1, got 0"),
        ("CoordAtt", (16, 2.5), "CoordAtt: reduction must be a whole number from 1, got 2.5"),
        ("StarBlock", (16, 0), "StarBlock: expansion must be a whole number from 1, got 0"),
        ("LKA", (16, 12, 3), "LKA: ceil.k / d. must be odd .* got 4"),
        ("CARAFE", (16, 2, 4, 5), "k_enc must be odd .* got 4"),
        ("CARAFE", (16, 2.0), "CARAFE: scale must be a whole number from 1, got 2.0"),
        ("PConv", (16, 4, 2), "PConv: k must be odd .* got 2"),
        ("FasterBlock", (16, 4, 0), "FasterBlock: expansion must be a whole number from 1, got 0"),
        ("EMA", (20, 8), "EMA: channels must be a multiple of 8, got 20"),
    ],
)
def test_arguments_that_have_no_meaning_are_refused(name, args, message):
    with pytest.raises(ModelConfigError, match=message):
        resolve_module(name).build(*args)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (RowContext((16, 32)), r"maps have \[16, 32\] channels .* all equal"),
        (RowContext((16, 16), repeats=3), "cannot be repeated; write 1 in the second column"),
        (RowContext((16,)), "expected two or more"),
        (RowContext((8, 8), sizes=((40, 40), (1, 1))), r"sizes \[\(40, 40\), \(1, 1\)\]"),
    ],
)
def test_maps_that_cannot_be_added_are_refused(context, message):
    with pytest.raises(ModelConfigError, match=message):
        resolve_module("WeightedAdd").plan(context)


def path_of(model: str) -> Path:
    return MODELS_DIR / "rt-detr" / f"rtdetr-efficientvit-m0-{model}.yaml"


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> tuple[str, RTDETRDetectionModel]:
    torch.manual_seed(0)
    return request.param, RTDETRDetectionModel(path_of(request.param), nc=3, overrides={"num_queries": 20})


def test_a_model_file_has_its_module_in_place(model):
    name, net = model
    written = re.findall(r"\]\s+# (\d+)", path_of(name).read_text().split("backbone:")[1])  # comments with numbers
    assert list(map(int, written)) == [layer.i for layer in net.model]
    placed = [layer for layer in net.model if layer.type.endswith(f".{MODELS[name]}")]
    assert len(placed) == {"carafe": 2, "star": 4, "faster": 4, "bifpn": 4}.get(name, 3)
    assert all(layer.type.startswith("ultralytics.nn.Addmodules.") for layer in placed)
    assert not any(layer.assumed for layer in placed)  # built by the plan it registers
    assert [shapes[0][2:] for shapes in net.layer_shapes][-2] == (20, 20)
    decoder = net.model[-1]
    maps = {layer.i: shapes[0] for layer, shapes in zip(net.model, net.layer_shapes, strict=True)}
    assert [maps[i][1:] for i in decoder.f] == [(256, 80, 80), (256, 40, 40), (256, 20, 20)]


def test_a_model_file_predicts_and_trains(model):
    net = copy.deepcopy(model[1])
    with torch.no_grad():
        y, _ = net.eval()(torch.rand(1, 3, 64, 64))
    assert y.shape == (1, 20, 7) and y.isfinite().all()
    batch = {k: torch.from_numpy(v) for k, v in train_batch(0, 64, 64, (2, 1), nc=3).items()}
    total, items = net.train().loss(batch)
    total.backward()
    assert total.isfinite() and items.isfinite().all()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def documented(language: str) -> list[tuple[str, str, str]]:
    """Name, millions of parameters and GFLOPs of each row of the table."""
    text = (DOCS / language / "models.md").read_text(encoding="utf-8")
    return re.findall(r"^\| (\w+) \|.*?\| ([\d.]+) \| ([\d.]+) \|", text, re.M)


def test_the_documented_sizes_are_measured():
    assert documented("zh") == documented("en")
    assert {name for name, _, _ in documented("en")} == set(MODELS)
    for name, millions, gflops in documented("en"):
        net = RTDETRDetectionModel(path_of(name))
        assert f"{sum(p.numel() for p in net.parameters()) / 1e6:.3f}" == millions, name
        assert f"{get_flops(net):.2f}" == gflops, name
