import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ultralytics
from tests.nn.accelerate.helpers import assert_rewriting_is_exact, batch, detector, stirred
from tests.shapes import write_shapes
from ultralytics.models.rtdetr.model import RTDETR
from ultralytics.nn.accelerate import SUBSTITUTES, for_inference, for_training, linear, restore, silu
from ultralytics.nn.accelerate.decoder_training import SelectedGradientDecoder
from ultralytics.nn.accelerate.folded_decoder import FoldedDecoder
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.tasks import RTDETRDetectionModel

FILES = sorted((Path(ultralytics.__file__).parent / "cfg/models/rt-detr").glob("*.yaml"))
FAST = {f"rtdetr-{name}" for name in ("efficientvit-m0-carafe", "l", "resnet50", "r18", "timm", "torchvision")}


@pytest.mark.parametrize(
    "file", [pytest.param(f, marks=() if f.stem in FAST else pytest.mark.slow, id=f.stem) for f in FILES]
)
def test_every_model_file_keeps_its_outputs_in_inference(file):
    network = stirred(RTDETRDetectionModel(file, overrides={"num_queries": 50}))
    fast = assert_rewriting_is_exact(network, size=(128, 160), batch=1)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


@pytest.fixture
def everything(monkeypatch):
    """Apply every substitution, whatever the processor and the sizes of maps."""
    monkeypatch.setattr(linear, "mkl_lacks_avx512", lambda: True)
    monkeypatch.setattr(linear, "SMALLEST", 1)
    monkeypatch.setattr(silu, "SMALLEST", 1)


def network() -> RTDETRDetectionModel:
    """Build a detector with a layer of every class that has a substitute."""
    neck = [[-1, 1, "AIFI", [64, 8]], [-1, 1, "RepConv", [64]]]
    return detector(neck, [[2, 3, -1], 1, "RTDETRDecoder", ["nc", 32, 12, 2, 4, 2]], num_denoising=10)


def step(model: nn.Module) -> list[torch.Tensor]:
    """Return loss items, gradients and buffers of a training step."""
    torch.manual_seed(0)
    loss, items = model.loss(batch())
    loss.backward()
    return [items, *(p.grad for p in model.parameters() if p.grad is not None), *model.buffers()]


def test_a_training_step_keeps_its_loss_gradients_and_statistics(everything):
    plain = network().train()
    fast = copy.deepcopy(plain)
    assert {name.partition(" ")[2] for name in for_training(fast)} == {row[2].label for row in SUBSTITUTES}
    for ours, expected in zip(step(fast), step(plain), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-10)


def test_a_trained_network_is_copied_pickled_saved_and_restored(everything):
    plain = network()
    fast = copy.deepcopy(plain)
    for_training(fast)
    assert list(fast.state_dict()) == list(plain.state_dict())
    kinds = [type(module) for module in fast.modules()]
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert [type(module) for module in twin.modules()] == kinds
    assert for_training(fast) == []  # once more changes nothing
    assert type(for_inference(fast).model[0]) is Conv  # rewritten from the plain classes
    assert [type(m) for m in restore(fast).modules()] == [type(m) for m in plain.modules()] != kinds


def test_subclasses_are_left_alone():
    class Mine(Conv):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(self.conv(x))

    assert for_training(Mine(3, 8)) == []


def test_what_was_applied_is_logged(caplog):
    applied = for_training(plain := network())
    for_inference(plain)
    for_inference(plain)
    ours, inference = [r.getMessage() for r in caplog.records if r.getMessage().startswith("accelerate")]
    assert ours == f"accelerate: {', '.join(applied)} (accelerate=False switches this off)"
    assert "batch norms folded" in inference and "1 decoder folded" in inference


@torch.no_grad()
def test_fusing_keeps_the_classes_and_the_layers():
    plain = network()
    x, once = batch()["img"], copy.deepcopy(plain).fuse()
    assert type(once.model[-1]) is RTDETRDecoder and len(once.model) == len(plain.model)
    expected = once(x)[0]
    assert torch.equal(once.fuse()(x)[0], expected)


def test_embeddings_and_layer_table_of_the_fused_network():
    plain = stirred(RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", overrides={"num_queries": 20}))
    x = torch.rand(1, 3, 96, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = plain.predict(x, embed=[7, 16, 22])
        vectors = for_inference(plain).predict(x, embed=[7, 16, 22])
    torch.testing.assert_close(vectors, expected)
    assert len(for_inference(plain).table().splitlines()) == 1 + len(for_inference(plain).model)


@pytest.mark.parametrize("accelerate", [False, True])
def test_the_option_chooses_the_classes_that_train_validate_and_predict(accelerate, tmp_path, monkeypatch):
    data = write_shapes(tmp_path, train=4, val=2)
    forward, calls, mode = RTDETRDecoder.forward, set(), ""

    def record(self, maps, *args):  # a breakpoint in `RTDETRDecoder.forward` stops at the same calls
        if maps[0].numel() and not maps[0].is_meta:  # not from building and fusing the network
            calls.add((mode, "train" if self.training else "eval", type(self)))
        return forward(self, maps, *args)

    monkeypatch.setattr(RTDETRDecoder, "forward", record)
    model = RTDETR("rtdetr-efficientvit-m0.yaml", verbose=False)
    options = {"imgsz": 64, "device": "cpu", "plots": False, "project": str(tmp_path), "accelerate": accelerate}
    mode = "train"
    model.train(data=str(data), epochs=1, batch=4, workers=0, queries=10, **options)
    assert {type(module) for module in model.model.modules()}.isdisjoint(row[2] for row in SUBSTITUTES)  # restored
    mode = "val"
    model.val(data=str(data), workers=0, **options)
    mode = "predict"
    model.predict(np.zeros((64, 64, 3), np.uint8), **options)
    if accelerate:
        in_training = {("train", phase, SelectedGradientDecoder) for phase in ("train", "eval")}
        in_inference = {(mode, "eval", FoldedDecoder) for mode in ("train", "val", "predict")}
        assert calls == in_training | in_inference
    else:
        phases = (("train", "train"), ("train", "eval"), ("val", "eval"), ("predict", "eval"))
        assert calls == {(*phase, RTDETRDecoder) for phase in phases}
