"""Terms of the RT-DETR loss against the reference, and its map of terms."""

import math

import pytest
import torch

from tests.golden.inputs import rtdetr_loss_inputs
from tests.golden.losses import LOSS, LOSS_NUMBERS, labels
from ultralytics.cfg.options import get_cfg
from ultralytics.losses.assigner import DensePrediction
from ultralytics.losses.detr import LossTerm, RTDETRDetectionLoss
from ultralytics.nn.modules.one_to_many import OneToManyHead
from ultralytics.utils.errors import OptionError
from ultralytics.utils.ops import bbox_iou, xywh2xyxy

SHAPES = [(8, 8), (4, 4), (2, 2)]


def denoising_inputs(case: dict, source: dict) -> tuple:
    """Return denoising predictions and their positions; None without boxes."""
    if "dn_num_split" not in LOSS["cases"][0] or not sum(case["counts"]):
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
    options = {"use_vfl": False, **case["options"]}
    terms = RTDETRDetectionLoss(**options)(
        (boxes, logits), labels(source, case["counts"]), *denoising_inputs(case, source)
    )
    for name, expected in case["losses"].items():
        assert terms[name].item() == pytest.approx(expected, rel=1e-5, abs=1e-6), name
    sum(term for name, term in terms.items() if not name.endswith("_dn")).backward()
    assert boxes.grad.norm().item() == pytest.approx(case["grad_norm_boxes"], rel=1e-4)
    assert logits.grad.norm().item() == pytest.approx(case["grad_norm_logits"], rel=1e-4)


def test_a_new_term_is_one_line_of_the_map():
    def center_loss(criterion, matched):
        return matched.sum_layers((matched.boxes - matched.targets)[:, :2].square().sum(-1))

    class Mine(RTDETRDetectionLoss):
        loss_map = RTDETRDetectionLoss.loss_map | {"center": LossTerm(center_loss, gain=3.0, logged="center_loss")}

    case = LOSS["cases"][0]
    source = rtdetr_loss_inputs(case["seed"], tuple(case["counts"]), dn_queries=case["dn_queries"])
    boxes, logits = torch.from_numpy(source["boxes"]), torch.from_numpy(source["logits"])
    loss, batch = Mine(loss_gain={"bbox": 4}), labels(source, case["counts"])
    terms = loss((boxes, logits), batch, *denoising_inputs(case, source))
    assert loss.loss_names == ("giou_loss", "cls_loss", "l1_loss", "center_loss")
    assert loss.loss_gain == {"giou": 2, "class": 1, "bbox": 4, "center": 3}
    assert loss.loss_items(terms)[3] == terms["loss_center"] > 0
    assert {"loss_center_aux", "loss_center_dn", "loss_center_aux_dn"} <= set(terms)


def test_gains_come_from_the_options():
    loss = RTDETRDetectionLoss.from_options(get_cfg(overrides={"loss_giou": 7, "loss_class": "mal"}), nc=3)
    assert loss.loss_gain == {"giou": 7, "class": 1, "bbox": 5} and (loss.loss_class, loss.nc) == ("mal", 3)


def test_an_unknown_class_loss_is_an_error_with_the_nearest_name():
    with pytest.raises(OptionError, match="expected vfl, mal, focal, bce, got 'focl'; did you mean 'focal'"):
        RTDETRDetectionLoss(loss_class="focl")
    assert RTDETRDetectionLoss(use_vfl=False).loss_class == "focal"
    assert RTDETRDetectionLoss(loss_class="mal").loss_class == "mal"


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


def test_dense_terms_are_those_of_the_formula():
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
