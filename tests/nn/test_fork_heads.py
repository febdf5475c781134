"""Heads that forks define for themselves: they build by a row, train, predict and export as `Detect` does."""

import pytest
import torch
import yaml

from tests.golden.inputs import train_batch
from ultralytics import YOLO
from ultralytics.models import Model
from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.formats.export_spec import ExportWrapper
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel
from ultralytics.utils.errors import ModelConfigError

FORK = "tests/nn/fork_repository"
BATCH = {key: torch.from_numpy(value) for key, value in train_batch(0, 64, 64, nc=3).items()}
TERMS = ["box_loss", "cls_loss", "dfl_loss"]
HEADS = [  # head, row, keys of the file, maps that it reads, strides, size of y for 64 x 64, terms of the loss
    ("Detect_Tied", ["nc", 32], {}, 3, [8, 16, 32], (7, 84), TERMS),
    ("Detect_Finer", ["nc"], {}, 3, [4, 8, 16, 32], (7, 340), TERMS),
    ("DetectTwin", ["nc", 32], {}, 6, [8, 16, 32], (7, 84), [*TERMS, *(f"{t}_auxiliary" for t in TERMS)]),
    ("Detect_Plain", ["nc"], {}, 3, [8, 16, 32], (7, 84), ["box_loss", "cls_loss", "l1_loss"]),
    ("Detect_8_0", ["nc"], {}, 3, [8, 16, 32], (7, 84), TERMS),
    ("Detect_8_2", ["nc"], {}, 3, [8, 16, 32], (7, 84), TERMS),
    ("Detect_8_3", ["nc"], {}, 3, [8, 16, 32], (7, 84), TERMS),
    ("Detect_8_3_Pair", ["nc"], {}, 3, [8, 16, 32], (84, 6), [*TERMS, *(f"{t}_one2many" for t in TERMS)]),
    ("Detect_8_4", ["nc"], {}, 3, [8, 16, 32], (7, 84), TERMS),
    ("Detect_8_4", ["nc"], {"end2end": True, "reg_max": 8}, 3, [8, 16, 32], (84, 6), None),
]


def content(head: str, args: list, maps: int = 3, **keys) -> dict:
    """A model file with a head on maps of strides 8, 16, 32, once or twice."""
    rows = [[-1, 1, "Conv", [c, 3, 2]] for c in (16, 16, 16, 32, 48)]
    reads = ([2, 3, 4] * 2)[:maps]
    return {"nc": 3, "modules": [FORK], "backbone": rows, "head": [[reads, 1, head, args]], **keys}


@pytest.mark.parametrize(("head", "args", "keys", "maps", "strides", "size", "terms"), HEADS)
def test_heads_train_predict_and_export(head, args, keys, maps, strides, size, terms):
    network = DetectionModel(content(head, args, maps, **keys))
    assert network.stride.tolist() == list(network.model[-1].stride) == strides
    loss, items = network.train().loss(BATCH)
    loss.backward()
    assert loss.isfinite() and len(items) == 3
    assert all(p.grad is not None for name, p in network.named_parameters() if "dfl" not in name)
    assert terms is None or list(network.criterion(network(BATCH["img"]), BATCH)) == terms
    with torch.no_grad():
        y, raw = network.eval()(BATCH["img"])
        assert y.shape[1:] == size and network.loss(BATCH, (y, raw))[0].isfinite()
        network.predict(BATCH["img"][..., :32])  # anchors of another size
        fast = for_inference(network)(BATCH["img"])[0]  # equal scores may be in any order
        torch.testing.assert_close(*(x if size[1] > 6 else x[..., 4] for x in (fast, y)), rtol=1e-3, atol=1e-3)
        traced = torch.jit.trace(ExportWrapper(network), BATCH["img"])
        torch.testing.assert_close(traced(BATCH["img"]), network(BATCH["img"])[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("head", ["Detect_8_0", "Detect_8_2", "Detect_8_3", "Detect_8_4"])
def test_subclasses_for_any_release_have_the_outputs_and_losses_of_detect(head):
    ours, theirs = DetectionModel(content("Detect", ["nc"])), DetectionModel(content(head, ["nc"]))
    theirs.load_state_dict(ours.state_dict(), strict=False)
    for gate in getattr(theirs.model[-1], "gates", ()):  # multiplies by 1
        gate.conv.weight.data.zero_()
        gate.bn.bias.data.fill_(1.2784645)
    with torch.no_grad():
        assert torch.allclose(ours.train().loss(BATCH)[1], theirs.train().loss(BATCH)[1], rtol=1e-4)
        torch.testing.assert_close(ours.eval()(BATCH["img"])[0], theirs.eval()(BATCH["img"])[0], rtol=1e-4, atol=1e-3)


def test_the_class_branch_of_a_subclass_follows_the_file():
    legacy, light = (DetectionModel(content("Detect_8_2", ["nc"], legacy=kind)).model[-1] for kind in (True, False))
    assert (legacy.legacy, light.legacy) == (True, False) and len(light.cv3[0][0]) == 2


def test_the_public_class_trains_validates_and_loads(tmp_path):
    (tmp_path / "tied.yaml").write_text(yaml.safe_dump(content("Detect_Tied", ["nc", 32], modules=[])))
    model = Model(str(tmp_path / "tied.yaml"), modules=FORK, verbose=False)
    assert type(model) is YOLO
    options = {"data": "shapes8.yaml", "imgsz": 64, "workers": 0, "plots": False, "verbose": False}
    model.train(**options, epochs=1, batch=4, project=str(tmp_path))
    with pytest.raises(ModelConfigError, match=r"no module 'Detect_Tied'.*records the module folder"):
        Model(str(model.trainer.best), verbose=False)
    loaded = YOLO(str(model.trainer.best), modules=FORK, verbose=False)
    assert 0 <= loaded.val(**options).box.map50 <= 1
    assert loaded.predict(torch.rand(1, 3, 64, 64), verbose=False)[0].boxes.data.shape[1] == 6


def test_heads_of_other_tasks_are_refused():
    with pytest.raises(ModelConfigError, match="Segment_Tied is a head of the task 'segment'"):
        DetectionModel(content("Segment_Tied", ["nc"]))


@pytest.mark.parametrize(
    ("head", "args", "message"),
    [
        ("Detect_Objectness", ["nc"], r"the head returns \[\(2, 8, 8, 8\), .* expected a map \(B, .* = 7, h, w\)"),
        ("Detect_Named", ["nc"], "the head returns a dictionary with class_logits, box_deltas in training, expected"),
        ("Detect_Anchors", ["nc", [[10, 13], [30, 61]]], r"the head returns \[\(2, 3, 8, 8, 8\), .* expected a map"),
    ],
)
def test_a_head_without_a_loss_is_explained_in_training(head, args, message):
    network = DetectionModel(content(head, args)).train()
    with pytest.raises(ModelConfigError, match=message):
        network.loss(BATCH)


DECODER = ["nc", 32, 10, 2, 4, 2]  # width, queries, points, heads, layers


@pytest.mark.parametrize("head", ["RTDETRDecoder_Steps", "RTDETRDecoder_Long"])
def test_decoders_that_are_written_out_have_the_outputs_and_losses_of_ours(head):
    ours = RTDETRDetectionModel(content("RTDETRDecoder", [*DECODER, 1024]))
    theirs = RTDETRDetectionModel(content(head, DECODER))
    theirs.load_state_dict(ours.state_dict())
    losses = []
    for network in (ours, theirs):
        torch.manual_seed(0)
        losses.append(network.train().loss(BATCH)[1])
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        y = [network.eval()(BATCH["img"])[0] for network in (ours, theirs)]
    torch.testing.assert_close(*y, rtol=1e-4, atol=1e-5)


def test_a_part_of_a_head_needs_a_name_that_the_network_does_not_set():
    with pytest.raises(ModelConfigError, match="its part 'f' has a name that the network sets on a head; rename it"):
        DetectionModel(content("Detect_WithF", ["nc"]))


def test_parts_of_the_published_decoder_can_be_replaced():
    network = RTDETRDetectionModel(content("RTDETRDecoder_Parts", DECODER), overrides={"num_queries": 7})
    plain = RTDETRDetectionModel(content("RTDETRDecoder", DECODER), overrides={"num_queries": 7})
    network.load_state_dict(plain.state_dict())
    assert network.loss(BATCH)[0].isfinite()
    with torch.no_grad():
        y, other = network.eval()(BATCH["img"])[0], plain.eval()(BATCH["img"])[0]
    assert y.shape == (2, 7, 7) and (y[..., 2:4] - other[..., 2:4]).abs().min() > 0.1  # the anchors are larger
