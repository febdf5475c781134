"""Options of layers that the model files of the package do not use."""

import pytest
import torch
from torch import nn

from ultralytics.nn.modules import AIFI, Conv, MSDeformAttn, RTDETRDecoder, TransformerEncoderLayer, autopad
from ultralytics.nn.parser import build_module
from ultralytics.utils.errors import ModelConfigError

MAPS = [torch.rand(2, 16, side, side, generator=torch.Generator().manual_seed(side)) for side in (8, 4)]


def decoder(**kwargs) -> RTDETRDecoder:
    torch.manual_seed(0)
    return RTDETRDecoder(3, (16, 16), hd=32, nq=10, ndp=2, nh=4, ndl=2, d_ffn=64, **kwargs)


@torch.no_grad()
def test_an_exported_decoder_returns_the_predictions_alone():
    head = decoder().eval()
    y, _ = head(MAPS)
    head.export = True
    assert torch.equal(head(MAPS), y) and y.shape == (2, 10, 7)


@torch.no_grad()
def test_eval_idx_chooses_the_decoder_layer():
    for eval_idx, reads_second_layer in ((0, False), (-1, True)):
        head = decoder(eval_idx=eval_idx).eval()
        before = head(MAPS)[0]
        nn.init.ones_(head.dec_score_head[1].bias)
        assert torch.equal(head(MAPS)[0], before) != reads_second_layer


def test_learnt_queries_are_trained():
    head = decoder(learnt_init_query=True).train()
    boxes, logits, *_ = head(MAPS)
    (boxes.sum() + logits.sum()).backward()
    assert head.tgt_embed.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_pre_normalisation_leaves_the_residual_path_free():
    layer = TransformerEncoderLayer(16, 32, 4, normalize_before=True).eval()
    for branch in (layer.ma.out_proj, layer.fc2):
        nn.init.zeros_(branch.weight)
        nn.init.zeros_(branch.bias)
    tokens = torch.rand(2, 5, 16)
    assert torch.equal(layer(tokens), tokens)  # post-normalisation would have normalised it


def test_aifi_needs_channels_divisible_by_4():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        AIFI(6, 8, 2)(torch.rand(1, 6, 4, 4))


@pytest.mark.parametrize(("k", "d", "p"), [(3, 1, 1), (5, 2, 4), ((1, 7), 1, [0, 3])])
def test_autopad_keeps_the_size(k, d, p):
    assert autopad(k, d=d) == p
    assert Conv(2, 2, k, d=d)(torch.rand(1, 2, 9, 9)).shape == (1, 2, 9, 9)


def test_a_row_of_the_decoder_reaches_its_last_argument():
    inputs, row = ((16, 8, 8), (16, 4, 4)), [3, 32, 10, 2, 4, 2, 64, 0.0, "gelu", 0, 50, 0.25, 0.75, True]
    head = build_module("RTDETRDecoder", row, inputs)
    assert (head.label_noise_ratio, head.box_noise_scale, head.num_denoising) == (0.25, 0.75, 50)
    assert head.learnt_init_query and head.tgt_embed.weight.shape == (10, 32)
    assert head.decoder.eval_idx == 0 and isinstance(head.decoder.layers[1].act, nn.GELU)
    with pytest.raises(ModelConfigError, match=r"nc and up to 13 more \(hd, nq, .* got 14 more"):
        build_module("RTDETRDecoder", [*row, 1], inputs)
    with pytest.raises(ModelConfigError, match="cannot be repeated"):
        build_module("RTDETRDecoder", row, inputs, repeats=2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: decoder(eval_idx=2), "eval_idx: expected -2 to 1, got 2"),
        (lambda: decoder(eval_idx=-3), "-2 to 1, got -3"),
        (lambda: decoder(act="rleu"), "did you mean 'relu'"),
        (lambda: RTDETRDecoder(3, (16,), hd=32, nh=0), "RTDETRDecoder: nh must be an integer >= 1, got 0"),
        (lambda: MSDeformAttn(20, n_heads=8), "MSDeformAttn: d_model must be a multiple of 8, got 20"),
    ],
)
def test_arguments_that_cannot_work_are_refused_by_name(build, message):
    with pytest.raises(ModelConfigError, match=message):
        build()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.bfloat16, 0.2)])
@torch.no_grad()
def test_attention_and_decoder_run_in_other_types(dtype, tolerance):
    encoder, x = AIFI(16, 32, 4).eval(), MAPS[0][:, :, :7, :5]
    expected = encoder(x)
    got = encoder.to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=tolerance)
    y, _ = decoder().eval().to(dtype)([m.to(dtype) for m in MAPS])
    assert y.dtype == dtype and y.isfinite().all()


@torch.no_grad()
def test_folding_leaves_no_normalisation_of_the_decoder_and_changes_nothing():
    head = build_module("RTDETRDecoder", [3, 32, 10, 2, 4, 1], ((16, 8, 8), (24, 4, 4))).eval()
    for norm in (module for module in head.modules() if isinstance(module, nn.BatchNorm2d)):
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            value.uniform_(0.5, 1.5)
    maps = [torch.rand(2, 16, 8, 8), torch.rand(2, 24, 4, 4)]
    before = head(maps)[1][3]  # class scores of the selected positions
    head.fold()
    head.fold()  # once more does nothing
    assert not any(isinstance(module, nn.BatchNorm2d) for module in head.modules())
    assert torch.allclose(head(maps)[1][3], before, atol=1e-5)


def test_the_decoder_takes_a_batch_of_no_images():
    """Which tells its shapes when a network is made from weights."""
    decoder = RTDETRDecoder(3, (8, 8), hd=16, nq=5, nh=2, ndl=1).eval()

    y, _ = decoder([torch.rand(0, 8, 4, 4), torch.rand(0, 8, 2, 2)])

    assert y.shape == (0, 5, 4 + 3)
