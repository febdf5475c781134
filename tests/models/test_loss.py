"""Loss of a whole RT-DETR, with and without the one-to-many branch."""

import numpy as np
import pytest
import torch
import yaml

from tests.golden.fill import fill
from tests.golden.inputs import train_batch
from tests.golden.losses import read
from ultralytics.cfg.options import get_cfg
from ultralytics.data.synthetic import NAMES, generate_shapes
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.modules.one_to_many import OneToManyHead
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.torch_utils import ModelEMA

NETWORK = "rtdetr-efficientvit-m0.yaml"
SHAPES = [(8, 8), (4, 4), (2, 2)]


def network(one_to_many: float = 1.0, **loss) -> RTDETRDetectionModel:
    model = RTDETRDetectionModel(NETWORK, nc=3, overrides={"num_queries": 20, "num_denoising": 4})
    model.model[-1].set_one_to_many(one_to_many > 0)
    model.criterion = RTDETRDetectionLoss(nc=3, one_to_many=one_to_many, **loss)
    return model.train()


def batch(counts: tuple[int, ...]) -> dict:
    return {k: torch.from_numpy(v) for k, v in train_batch(0, 64, 64, counts, nc=3).items()}


@pytest.fixture(scope="module")
def model() -> RTDETRDetectionModel:
    return RTDETRDetectionModel(NETWORK, nc=80, overrides={"num_denoising": 0})


def test_loss_and_gradients_of_a_whole_model_are_those_of_the_reference(model):
    expected, numbers = read("loss_rtdetr-efficientvit-m0_256x256")
    fill(model, expected["gain"]).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    model.criterion = RTDETRDetectionLoss(80, alpha=0.75, gamma=2.0)  # the older release's
    batch = {k: torch.from_numpy(v) for k, v in train_batch(expected["seed"], 256, 256, (5, 3)).items()}
    total, items = model.loss(batch)
    total.backward()
    assert total.item() == pytest.approx(expected["total"], rel=1e-5)
    assert items.tolist() == pytest.approx(expected["reported_items"], rel=1e-5)
    parameters = dict(model.named_parameters())
    for name, norm in expected["grad_norms"].items():
        assert parameters[name].grad.norm().item() == pytest.approx(norm, rel=1e-3), name
    for key in (k for k in numbers.files if k.startswith("grad__")):
        ours = parameters[key.removeprefix("grad__")].grad.flatten()
        ours = ours[np.linspace(0, ours.numel() - 1, 64).astype(np.int64)].numpy()
        assert np.abs(ours - numbers[key]).max() <= 1e-3 * np.abs(numbers[key]).max(), key


def test_a_batch_without_boxes_trains():
    model = RTDETRDetectionModel(NETWORK, nc=3, overrides={"num_queries": 20}).train()
    batch = {"img": torch.rand(2, 3, 64, 64), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    total, items = model.loss({**batch, "batch_idx": torch.zeros(0)})
    total.backward()
    assert total.isfinite() and items[0] == items[2] == 0
    assert all(p.grad is not None for p in model.model[-1].enc_score_head.parameters())


def test_every_parameter_gets_a_gradient():
    model = RTDETRDetectionModel(NETWORK, nc=3, overrides={"num_queries": 20}).train()
    model.loss(batch((2, 1)))[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_validation_loss_needs_no_second_forward():
    model = RTDETRDetectionModel(NETWORK, nc=3, overrides={"num_queries": 20}).eval()
    images = batch((2, 1))
    with torch.no_grad():
        assert torch.equal(model.loss(images, model(images["img"]))[1], model.loss(images)[1])


def test_boxes_start_as_squares_of_four_cells_around_their_positions():
    out = OneToManyHead(16, 3)(torch.rand(2, 84, 16), SHAPES)
    assert out.boxes.shape == (2, 84, 4) and out.scores.shape == (2, 84, 3) and out.points.shape == (84, 2)
    assert out.cell.tolist() == [1 / 8, 1 / 8]
    first, last = torch.tensor([1, 1, 1, 1]) / 16, torch.tensor([3, 3, 3, 3]) / 4  # centers of the corner cells
    assert torch.allclose(out.boxes[0, 0], first + torch.tensor([-1, -1, 1, 1]) * 2 / 8)
    assert torch.allclose(out.boxes[0, -1], last + torch.tensor([-1, -1, 1, 1]) * 2 / 2)
    assert torch.allclose(out.scores.sigmoid().mean(), torch.tensor(0.01), atol=0.01)


@pytest.mark.parametrize("counts", [(2, 1), (0, 3), (0, 0)])
def test_every_parameter_gets_a_gradient_whatever_the_boxes(counts):
    model = network()
    total, items = model.loss(batch(counts))
    total.backward()
    assert total.isfinite() and items.shape == (3,)
    branch = [p for n, p in model.named_parameters() if "one_to_many" in n]
    assert len(branch) == 8 and all(p.grad is not None and p.grad.isfinite().all() for p in branch)
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_the_loss_without_the_branch_is_what_it_was():
    model = network()
    with_branch, without = ({}, {})
    for terms in (with_branch, without):
        model.model[-1].set_one_to_many(terms is with_branch)
        torch.manual_seed(0)
        model.criterion.register_forward_hook(lambda _m, _i, out, into=terms: into.update(out))
        model.loss(batch((2, 1)))
        model.criterion._forward_hooks.clear()
    assert {k: v for k, v in with_branch.items() if not k.endswith("_dense")} == without
    assert set(with_branch) - set(without) == {"loss_class_dense", "loss_bbox_dense", "loss_giou_dense"}


def test_average_export_and_tables_know_nothing_of_the_branch():
    model, plain = network(), network(0.0)
    average = ModelEMA(model)
    model.loss(batch((2, 1)))[0].backward()
    assert average.update() and "one_to_many" in dict(model.model[-1].named_children())
    assert list(average.ema.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(average.ema.state_dict())
    assert average.ema.info(verbose=False).parameters == plain.info(verbose=False).parameters
    assert model.info(verbose=False).gflops == plain.info(verbose=False).gflops
    assert len(model.eval()(torch.rand(1, 3, 64, 64))[1]) == 5


def test_the_branch_comes_and_goes_without_a_trace():
    model = network(0.0)
    before = list(model.state_dict())
    model.model[-1].set_one_to_many(False)
    for on in (True, True, False):
        model.model[-1].set_one_to_many(on)
        assert (list(model.state_dict()) == before) is not on
    assert len(model.predict(torch.rand(2, 3, 64, 64))) == 5


class Trainer(RTDETRTrainer):
    def build_model(self):
        model = super().build_model()
        model.model[-1].set_one_to_many(True)
        model.criterion.one_to_many = 1.0
        return model


def test_a_run_ends_in_weights_without_the_branch_and_resumes_with_it(tmp_path):
    generate_shapes(tmp_path / "shapes", images_train=4, images_val=2, size=64, seed=0)
    content = {"path": "shapes", "train": "images/train", "val": "images/val", "names": dict(enumerate(NAMES))}
    (tmp_path / "shapes.yaml").write_text(yaml.safe_dump(content))
    given = {"model": NETWORK, "data": str(tmp_path / "shapes.yaml"), "imgsz": 64, "batch": 2, "nbs": 2, "epochs": 1}
    given |= {"workers": 0, "queries": 10, "denoising": 4, "device": "cpu", "plots": False, "project": str(tmp_path)}

    def train(**changes):
        trainer = Trainer(get_cfg(overrides={**given, **changes}), overrides={**given, **changes})
        trainer.train()
        return trainer

    first = train(name="first")
    best, saved = load_checkpoint(first.best), load_checkpoint(first.last)
    assert not [key for key in best["model"] if "one_to_many" in key]
    assert len([key for key in saved["model"] if "one_to_many" in key]) == 8
    plain = RTDETRDetectionModel(NETWORK, nc=len(NAMES), overrides={"num_queries": 10})
    plain.load_state_dict(best["model"])

    second = train(resume=str(first.last), epochs=2)
    restored = load_checkpoint(second.last)
    name = next(key for key in restored["model"] if "one_to_many" in key)
    assert second.epoch == 2 and not torch.equal(restored["model"][name], saved["model"][name])
