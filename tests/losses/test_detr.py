"""Loss of RT-DETR: its terms against the reference, its map of terms, the one-to-many branch, and whole models."""

import math
from types import MappingProxyType

import pytest
import torch
import yaml

from tests.golden.fill import fill
from tests.golden.inputs import rtdetr_loss_inputs, train_batch
from tests.golden.losses import LOSS, LOSS_NUMBERS, check_gradients, labels, read
from tests.interop.networks import NETWORK
from tests.shapes import write_shapes
from ultralytics.cfg.options import get_cfg
from ultralytics.data.synthetic import NAMES
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.losses.assigner import DensePrediction
from ultralytics.losses.detr import LossTerm, RTDETRDetectionLoss
from ultralytics.models.rtdetr import RTDETRTrainer
from ultralytics.nn.modules.one_to_many import OneToManyHead
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import OptionError
from ultralytics.utils.ops import bbox_iou, xywh2xyxy
from ultralytics.utils.torch_utils import ModelEMA

SHAPES = [(8, 8), (4, 4), (2, 2)]


class ReferenceLoss(RTDETRDetectionLoss):
    """The terms of the paper, whatever others `LOSS_MAP` has."""

    loss_map = MappingProxyType({name: RTDETRDetectionLoss.loss_map[name] for name in ("giou", "class", "bbox")})


def denoising_inputs(case: dict, source: dict) -> tuple:
    """Return denoising predictions and their positions; None without boxes."""
    if not sum(case["counts"]):
        return None, None, None
    key = f"c{case['case']}_dn_pos"
    positions = torch.from_numpy(LOSS_NUMBERS[f"{key}_idx"]).long().split(LOSS_NUMBERS[f"{key}_len"].tolist())
    first, boxes = 0, []
    for count, rows in zip(case["counts"], positions, strict=True):
        boxes.append(torch.arange(first, first + count).repeat(len(rows) // max(count, 1)))
        first += count
    meta = {"dn_pos_idx": positions, "dn_gt_idx": boxes}
    return torch.from_numpy(source["dn_boxes"]), torch.from_numpy(source["dn_logits"]), meta


@pytest.mark.parametrize("case", LOSS["cases"], ids=lambda c: f"case{c['case']}-{c['config']}")
def test_terms_and_gradients_are_those_of_the_reference(case):
    source = rtdetr_loss_inputs(case["seed"], tuple(case["counts"]), dn_queries=case["dn_queries"])
    boxes, logits = (torch.from_numpy(source[k]).requires_grad_() for k in ("boxes", "logits"))
    criterion, batch = ReferenceLoss(**case["options"]), labels(source, case["counts"])
    terms = criterion((boxes, logits), batch, *denoising_inputs(case, source))
    for name, expected in case["losses"].items():
        assert terms[name].item() == pytest.approx(expected, rel=1e-5, abs=1e-6), name
    sum(term for name, term in terms.items() if not name.endswith("_dn")).backward()
    assert boxes.grad.norm().item() == pytest.approx(case["grad_norm_boxes"], rel=1e-4)
    assert logits.grad.norm().item() == pytest.approx(case["grad_norm_logits"], rel=1e-4)


def test_a_new_term_is_one_line_of_the_map():
    def center_loss(criterion, matched):
        return matched.sum_layers((matched.boxes - matched.targets)[:, :2].square().sum(-1))

    class Mine(ReferenceLoss):
        loss_map = ReferenceLoss.loss_map | {"center": LossTerm(center_loss, gain=3.0, logged="center_loss")}

    case = LOSS["cases"][0]
    source = rtdetr_loss_inputs(case["seed"], tuple(case["counts"]), dn_queries=case["dn_queries"])
    boxes, logits = torch.from_numpy(source["boxes"]), torch.from_numpy(source["logits"])
    loss, batch = Mine(loss_gain={"bbox": 4}), labels(source, case["counts"])
    terms = loss((boxes, logits), batch, *denoising_inputs(case, source))
    assert loss.loss_names == ("giou_loss", "cls_loss", "l1_loss", "center_loss")
    assert loss.loss_gain == {"giou": 2, "class": 1, "bbox": 4, "center": 3}
    assert loss.loss_items(terms)[3] == terms["loss_center"] > 0
    assert {"loss_center_aux", "loss_center_dn", "loss_center_aux_dn"} <= set(terms)


def test_an_unknown_class_loss_is_an_error_with_the_nearest_name():
    with pytest.raises(OptionError, match="expected vfl, mal, focal, bce, got 'focl'; did you mean 'focal'"):
        ReferenceLoss(loss_class="focl")
    assert ReferenceLoss(use_vfl=False).loss_class == "focal"
    assert ReferenceLoss(loss_class="mal").loss_class == "mal"


@pytest.mark.parametrize("kind", ["vfl", "mal", "focal"])
def test_the_branch_learns_classes_and_boxes(kind):
    torch.manual_seed(0)
    boxes = torch.tensor([[0.3, 0.3, 0.4, 0.3], [0.75, 0.7, 0.3, 0.4], [0.5, 0.5, 0.8, 0.6]])
    labels = {"cls": torch.tensor([0, 2, 1]), "bboxes": boxes, "gt_groups": [2, 0, 1]}
    feats = torch.randn(3, 84, 32)
    head, criterion = OneToManyHead(32, 3), ReferenceLoss(nc=3, loss_class=kind, one_to_many=1.0)
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


def test_dense_terms_are_those_of_the_formula():
    """Two positions by hand: one inside the box, and one far from it."""
    box = torch.tensor([[0.25, 0.25, 0.2, 0.2]])
    labels = {"cls": torch.tensor([1]), "bboxes": box, "gt_groups": [1]}
    guess = torch.tensor([[[0.17, 0.15, 0.35, 0.35], [0.6, 0.6, 0.9, 0.9]]])
    scores, points = torch.tensor([[[-1.0, 0.5], [-2.0, -3.0]]]), torch.tensor([[0.25, 0.25], [0.75, 0.75]])
    criterion = ReferenceLoss(nc=2, loss_class="mal", one_to_many=0.5)
    terms = criterion.dense_terms(DensePrediction(guess, scores, points, torch.tensor([0.05, 0.05])), labels)

    overlap, hull = 0.18 * 0.2, 0.2 * 0.2
    soft = bbox_iou(guess[0, :1], xywh2xyxy(box), xywh=False, CIoU=True).item()  # the best position's is its overlap
    assert terms["loss_giou_dense"].item() == pytest.approx(0.5 * 2 * (1 - overlap / hull) * soft, rel=1e-4)
    assert terms["loss_bbox_dense"].item() == pytest.approx(0.5 * 5 * (0.01 + 0.02) * soft, rel=1e-4)
    sigmoid = [1 / (1 + math.exp(-z)) for z in (-1.0, 0.5, -2.0, -3.0)]
    negative = sum(-(p**1.5) * math.log(1 - p) for i, p in enumerate(sigmoid) if i != 1)
    positive = -(soft**1.5) * math.log(sigmoid[1]) - (1 - soft**1.5) * math.log(1 - sigmoid[1])
    assert terms["loss_class_dense"].item() == pytest.approx(0.5 * (negative + positive), rel=1e-4)


def network(one_to_many: float = 1.0) -> RTDETRDetectionModel:
    model = RTDETRDetectionModel(NETWORK, nc=3, overrides={"num_queries": 20, "num_denoising": 4})
    model.model[-1].set_one_to_many(one_to_many > 0)
    model.criterion = ReferenceLoss(nc=3, use_vfl=True, one_to_many=one_to_many)
    return model.train()


def batch(counts: tuple[int, ...]) -> dict:
    return {k: torch.from_numpy(v) for k, v in train_batch(0, 64, 64, counts, nc=3).items()}


def test_loss_and_gradients_of_a_whole_model_are_those_of_the_reference():
    expected, numbers = read("loss_rtdetr-efficientvit-m0_256x256")
    model = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=80, overrides={"num_denoising": 0})
    fill(model, expected["gain"]).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    model.criterion = ReferenceLoss(80, use_vfl=True, alpha=0.75, gamma=2.0)  # the older release's
    images = {k: torch.from_numpy(v) for k, v in train_batch(expected["seed"], 256, 256, (5, 3)).items()}
    total, items = model.loss(images)
    total.backward()
    assert total.item() == pytest.approx(expected["total"], rel=1e-5)
    assert items.tolist() == pytest.approx(expected["reported_items"], rel=1e-5)
    check_gradients(dict(model.named_parameters()), expected["grad_norms"], numbers)


@pytest.mark.parametrize("counts", [(2, 1), (0, 3), (0, 0)])
@pytest.mark.parametrize("one_to_many", [0.0, 1.0])
def test_every_parameter_gets_a_gradient_whatever_the_boxes(counts, one_to_many):
    model = network(one_to_many)
    total, items = model.loss(batch(counts))
    total.backward()
    assert total.isfinite() and items.shape == (3,)
    assert (sum(counts) > 0) or items[0] == items[2] == 0
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_validation_loss_needs_no_second_forward():
    model, images = network(0.0).eval(), batch((2, 1))
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


def test_the_loss_without_the_branch_is_what_it_was():
    model = network(0.0)
    names = list(model.state_dict())
    model.model[-1].set_one_to_many(False)
    with_branch, without = {}, {}
    for on, terms in ((True, with_branch), (True, with_branch), (False, without)):
        model.model[-1].set_one_to_many(on)
        model.criterion.one_to_many = float(on)
        assert (list(model.state_dict()) == names) is not on
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


def test_a_run_ends_in_weights_without_the_branch_and_resumes_with_it(tmp_path):
    data = write_shapes(tmp_path, train=4, val=2)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(NETWORK))
    given = {"model": str(tmp_path / "tiny.yaml"), "data": str(data), "imgsz": 64, "batch": 2, "nbs": 2, "epochs": 1}
    given |= {"one_to_many": 1.0, "workers": 0, "queries": 10, "denoising": 4, "device": "cpu", "plots": False}
    given |= {"project": str(tmp_path), "save_optimizer": True}

    def train(**changes):
        trainer = RTDETRTrainer(get_cfg(overrides={**given, **changes}), overrides={**given, **changes})
        trainer.train()
        return trainer

    first = train(name="first")
    best, saved = load_checkpoint(first.best), load_checkpoint(first.last)
    assert not [key for key in best["ema"] if "one_to_many" in key]
    assert len([key for key in saved["model"] if "one_to_many" in key]) == 8
    plain = RTDETRDetectionModel(given["model"], nc=len(NAMES), overrides={"num_queries": 10})
    plain.load_state_dict(best["ema"])

    second = train(resume=str(first.last), epochs=2)
    restored = load_checkpoint(second.last)
    name = next(key for key in restored["model"] if "one_to_many" in key)
    assert second.finished_epochs == 2 and not torch.equal(restored["model"][name], saved["model"][name])
