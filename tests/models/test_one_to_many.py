"""The one-to-many branch: what it learns, and that nothing but training knows of it."""

import math

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from tests.golden.inputs import train_batch
from ultralytics.cfg import get_cfg
from ultralytics.data.synthetic import NAMES, generate_shapes
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.losses.assigner import MAX_PAIRS, DensePrediction
from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.modules.one_to_many import OneToManyHead
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.ops import bbox_iou, xywh2xyxy
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


def targets(counts: list[int], nc: int = 3) -> dict:
    centre = 0.3 + 0.4 * torch.rand(sum(counts), 2)
    boxes = torch.cat((centre, 0.1 + 0.4 * torch.rand(sum(counts), 2)), 1)
    return {"cls": torch.randint(nc, (sum(counts),)), "bboxes": boxes, "gt_groups": counts}


def test_boxes_start_as_squares_of_four_cells_around_their_positions():
    out = OneToManyHead(16, 3)(torch.rand(2, 84, 16), SHAPES)
    assert out.boxes.shape == (2, 84, 4) and out.scores.shape == (2, 84, 3) and out.points.shape == (84, 2)
    assert out.cell.tolist() == [1 / 8, 1 / 8]
    first, last = torch.tensor([1, 1, 1, 1]) / 16, torch.tensor([3, 3, 3, 3]) / 4  # centres of the corners' cells
    assert torch.allclose(out.boxes[0, 0], first + torch.tensor([-1, -1, 1, 1]) * 2 / 8)
    assert torch.allclose(out.boxes[0, -1], last + torch.tensor([-1, -1, 1, 1]) * 2 / 2)
    assert torch.allclose(out.scores.sigmoid().mean(), torch.tensor(0.01), atol=0.01)


@pytest.mark.parametrize("kind", ["vfl", "mal", "focal"])
def test_the_branch_learns_classes_and_boxes(kind):
    torch.manual_seed(0)
    boxes = torch.tensor([[0.3, 0.3, 0.4, 0.3], [0.75, 0.7, 0.3, 0.4], [0.5, 0.5, 0.8, 0.6]])
    labels = {"cls": torch.tensor([0, 2, 1]), "bboxes": boxes, "gt_groups": [2, 0, 1]}
    feats = torch.randn(3, 84, 32)
    head, criterion = OneToManyHead(32, 3), RTDETRDetectionLoss(nc=3, loss_class=kind, one_to_many=1.0)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        sum(criterion.dense_terms(head(feats, SHAPES), labels).values()).backward()
        optimizer.step()
    out = head(feats, SHAPES)
    for image, box, name in zip((0, 0, 2), labels["bboxes"], labels["cls"], strict=True):
        best = out.scores[image, :, name].argmax()
        assert bbox_iou(out.boxes[image, best], xywh2xyxy(box), xywh=False) > 0.8
        assert out.scores[image, best].argmax() == name
    assert out.scores[1].sigmoid().max() < 0.5 < out.scores[0].sigmoid().max()


def test_terms_are_those_of_the_formula():
    """Two positions by hand: one inside the box, and one far from it."""
    box = torch.tensor([[0.25, 0.25, 0.2, 0.2]])
    labels = {"cls": torch.tensor([1]), "bboxes": box, "gt_groups": [1]}
    guess = torch.tensor([[[0.17, 0.15, 0.35, 0.35], [0.6, 0.6, 0.9, 0.9]]])
    scores, points = torch.tensor([[[-1.0, 0.5], [-2.0, -3.0]]]), torch.tensor([[0.25, 0.25], [0.75, 0.75]])
    criterion = RTDETRDetectionLoss(nc=2, loss_class="mal", one_to_many=0.5)
    terms = criterion.dense_terms(DensePrediction(guess, scores, points, torch.tensor([0.05, 0.05])), labels)

    overlap, hull = 0.18 * 0.2, 0.2 * 0.2
    soft = bbox_iou(guess[0, :1], xywh2xyxy(box), xywh=False, CIoU=True).item()  # the best position's is its overlap
    assert terms["loss_giou_dense"].item() == pytest.approx(0.5 * 2 * (1 - overlap / hull) * soft, rel=1e-4)
    assert terms["loss_bbox_dense"].item() == pytest.approx(0.5 * 5 * (0.01 + 0.02) * soft, rel=1e-4)
    sigmoid = [1 / (1 + math.exp(-z)) for z in (-1.0, 0.5, -2.0, -3.0)]
    negative = sum(-(p**1.5) * math.log(1 - p) for i, p in enumerate(sigmoid) if i != 1)
    positive = -(soft**1.5) * math.log(sigmoid[1]) - (1 - soft**1.5) * math.log(1 - sigmoid[1])
    assert terms["loss_class_dense"].item() == pytest.approx(0.5 * (negative + positive), rel=1e-4)


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


def test_500_boxes_need_bounded_memory():
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes():
                    self.numel = max(self.numel, tensor.untyped_storage().nbytes() // 4)
            return out

    shapes = [(80, 80), (40, 40), (20, 20)]  # of an image of 640 pixels
    dense = OneToManyHead(8, 2)(torch.rand(4, 8400, 8), shapes)
    criterion = RTDETRDetectionLoss(nc=2, one_to_many=1.0)
    with Largest() as largest:
        terms = criterion.dense_terms(dense, targets([500, 500, 0, 500], nc=2))
    assert largest.numel <= MAX_PAIRS
    assert all(term.isfinite() for term in terms.values())


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
