import pytest
import torch
from torch import nn

from tests.golden.inputs import train_batch
from ultralytics.nn.modules.deformable import MSDeformAttn
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.parser import build_module
from ultralytics.nn.tasks import RTDETRDetectionModel
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


def test_learned_queries_are_trained():
    head = decoder(learnt_init_query=True).train()
    boxes, logits, *_ = head(MAPS)
    (boxes.sum() + logits.sum()).backward()
    assert head.tgt_embed.weight.grad.abs().sum() > 0


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
        (lambda: RTDETRDecoder(3, (16,), hd=32, nh=0), "RTDETRDecoder: nh must be a whole number from 1, got 0"),
        (lambda: MSDeformAttn(20, n_heads=8), "MSDeformAttn: d_model must be a multiple of 8, got 20"),
    ],
)
def test_invalid_arguments_are_named(build, message):
    with pytest.raises(ModelConfigError, match=message):
        build()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_the_decoder_runs_in_other_types(dtype):
    y, _ = decoder().eval().to(dtype)([m.to(dtype) for m in MAPS])
    assert y.dtype == dtype and y.isfinite().all()


def test_the_decoder_takes_a_batch_of_no_images():
    """The shape check of a network from weights, and fusing, run it so."""
    y, _ = decoder().eval()([m[:0] for m in MAPS])
    assert y.shape == (0, 10, 4 + 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_the_decoder_does_not_overflow(dtype, training):
    torch.manual_seed(0)
    backbone = [[-1, 1, "Conv", [16, 3, 8]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    head = [[[0, 1, 2], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 2]]]
    model = RTDETRDetectionModel({"nc": 3, "backbone": backbone, "head": head}).train(training)
    with torch.no_grad():
        for layer in model.model[-1].decoder.layers:  # feed-forward networks that overflow in float16
            layer.linear1.weight *= 1000
            layer.linear2.weight *= 1000
    batch = {k: torch.from_numpy(v) for k, v in train_batch(0, 64, 64, (1, 1), nc=3).items()}
    with torch.autocast("cpu", dtype):
        loss, items = model.loss(batch) if training else model.loss(batch, model(batch["img"]))
    assert loss.isfinite() and items.isfinite().all() and loss.dtype == torch.float32
    if training:
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
