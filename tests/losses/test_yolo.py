"""Losses of YOLO detectors against the reference, against plain formulas, and on edge cases."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden.fill import fill
from tests.golden.inputs import train_batch, v8_loss_inputs
from tests.golden.losses import GOLDEN, check_gradients, read
from ultralytics.cfg.options import get_cfg
from ultralytics.losses.assigner import Matches
from ultralytics.losses.classification import class_weights
from ultralytics.losses.yolo import DetectionLoss, DualAssignmentLoss
from ultralytics.nn.tasks import DetectionModel

V8, V8_NUMBERS = read("v8_loss_8.4.190")
DUAL = json.loads((GOLDEN / "dual_loss_8.4.190.json").read_text())
STRIDES = (8, 16, 32)


def head(reg_max: int, nc: int = 80) -> SimpleNamespace:
    """Return what a loss reads of `Detect`."""
    return SimpleNamespace(nc=nc, reg_max=reg_max, stride=torch.tensor(STRIDES))


def raw_predictions(source: dict, height: int, width: int, reg_max: int = 16) -> dict:
    """Return the inputs of a case as the output of a branch; without DFL the first four channels, shifted."""
    boxes = torch.from_numpy(source["boxes"] if reg_max > 1 else source["boxes"][:, :4] + np.float32(3))
    feats = [torch.zeros(len(boxes), 1, height // stride, width // stride) for stride in STRIDES]
    return {
        "boxes": boxes.requires_grad_(),
        "scores": torch.from_numpy(source["scores"]).requires_grad_(),
        "feats": feats,
    }


def batch_of(source: dict) -> dict:
    return {key: torch.from_numpy(source[key]) for key in ("cls", "bboxes", "batch_idx")}


@pytest.mark.parametrize("case", V8["cases"], ids=lambda c: f"case{c['case']}")
def test_terms_gradients_and_assignment_are_those_of_the_reference(case):
    source = v8_loss_inputs(case["seed"], case["counts"], case["H"], case["W"])
    preds, criterion = raw_predictions(source, case["H"], case["W"]), DetectionLoss()
    matches = record_matches(criterion)
    terms = criterion(preds, batch_of(source))
    assert tuple(terms) == criterion.loss_names == ("box_loss", "cls_loss", "dfl_loss")
    assert criterion.loss_items(terms).tolist() == pytest.approx(list(case["items"].values()), rel=1e-5)
    (sum(terms.values()) * len(case["counts"])).backward()
    assert preds["boxes"].grad.norm().item() == pytest.approx(case["grad_norm_boxes"], rel=1e-4)
    assert preds["scores"].grad.norm().item() == pytest.approx(case["grad_norm_scores"], rel=1e-4)

    expected = [V8_NUMBERS[f"c{case['case']}_fg_{name}"] for name in ("image_anchor", "gt", "target_score")]
    check_matches(matches[0], *expected)


def record_matches(criterion: DetectionLoss) -> list[Matches]:
    """Record what the assigner returns."""
    matches, match = [], criterion.assigner.match
    criterion.assigner.match = lambda *args, **kwargs: matches.append(match(*args, **kwargs)) or matches[-1]
    return matches


def check_matches(matches: Matches, places: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> None:
    assert np.array_equal(torch.stack((matches.image, matches.position), 1).numpy(), places)
    assert np.array_equal(matches.box.numpy(), boxes)
    assert matches.quality.numpy() == pytest.approx(scores, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("case", DUAL["cases"], ids=lambda c: f"{c['model']}-{c['epoch']}-{c['seed']}")
def test_two_branches_have_the_terms_and_gradients_of_the_reference(case):
    size, reg_max = (case["H"], case["W"]), case["reg_max"]
    sources = [v8_loss_inputs(seed, case["counts"], *size) for seed in (case["seed"], case["seed"] + 100)]
    preds = {k: raw_predictions(x, *size, reg_max) for k, x in zip(("one2many", "one2one"), sources, strict=True)}
    criterion = DualAssignmentLoss.from_options(get_cfg(), head(reg_max))
    criterion.set_epoch(case["epoch"], case["epochs"])
    terms = criterion(preds, batch_of(sources[0]))
    images = len(case["counts"])
    for name, expected in zip(criterion.loss_names, case["loss_vector_times_batch"], strict=True):
        assert (terms[name] + terms[f"{name}_one2many"]).item() * images == pytest.approx(expected, rel=1e-5)
    assert dict(zip(criterion.loss_names, criterion.loss_items(terms).tolist(), strict=True)) == pytest.approx(
        case["items_one2one"], rel=1e-5
    )
    (sum(terms.values()) * images).backward()
    for name, expected in case["grad_norms"].items():
        branch, part = name.split("_")
        assert preds[branch][part].grad.norm().item() == pytest.approx(expected, rel=1e-4), name


def test_loss_and_gradients_of_a_whole_model_are_those_of_the_reference():
    expected, numbers = read("loss_yolov8n_256x256")
    model = fill(DetectionModel("yolov8n.yaml", nc=80), expected["gain"]).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    source = train_batch(expected["seed"], 256, 256, (5, 3))
    model.criterion = model.init_criterion()
    matches = record_matches(model.criterion)
    total, items = model.loss({k: torch.from_numpy(v) for k, v in source.items()})
    total.backward()
    check_matches(matches[0], *(numbers[f"fg_{name}"] for name in ("image_anchor", "gt", "target_score_max")))
    assert total.item() == pytest.approx(expected["total"], rel=1e-4)
    assert items.tolist() == pytest.approx(list(expected["terms"].values()), rel=1e-4)
    parameters = dict(model.named_parameters())
    check_gradients(parameters, expected["grad_norms"], numbers)
    without = [name for name, p in parameters.items() if p.grad is None or not p.grad.any()]
    assert without == [name for name in expected["params_without_gradient"] if name in parameters]


@pytest.mark.parametrize(("power", "expected"), [(0.0, 260.010132), (0.5, 255.335388), (1.0, 248.961655)])
def test_class_weights_scale_the_classification_loss_as_in_the_reference(power, expected):
    """Loss of 8.4.190 with the option cls_pw for a data set with 6, 2, 1 and 0 boxes of four classes."""
    model = fill(DetectionModel("yolov8n.yaml", nc=4), 1.5).train()
    model.model[-1].class_weights = class_weights(torch.tensor([6, 2, 1, 0]), power)
    images, boxes = (
        torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        [[0.5] * 4, [0.4, 0.4, 0.3, 0.3]],
    )
    model(images)  # the reference has run twice, too: batch norm
    batch = {"img": images, "cls": torch.tensor([[0.0], [2.0]]), "batch_idx": torch.arange(2.0)}
    _, items = model.loss({**batch, "bboxes": torch.tensor(boxes)})
    assert items.tolist() == pytest.approx([2.988689, expected, 1.979394], rel=1e-5)


def test_weights_of_the_branches_follow_the_epochs():
    criterion = DualAssignmentLoss.from_options(None, head(1))
    shares = []
    for epoch in range(4):
        criterion.set_epoch(epoch, 4)
        shares.append(criterion.share.item())
    assert shares == pytest.approx([0.8, 0.8 - 0.7 / 3, 0.8 - 1.4 / 3, 0.1])
    criterion.set_epoch(0, 1)
    assert criterion.share.item() == pytest.approx(0.8)
    assert not criterion.state_dict()  # a resumed run sets the epoch
    assert criterion.loss_names == ("box_loss", "cls_loss", "l1_loss")


def plain_loss(boxes: Tensor, scores: Tensor, batch: dict, height: int, width: int, topk: int, topk2: int) -> Tensor:
    """Compute the sum of the terms with loops over images, boxes and sides; boxes (B, 4 * reg_max, A), float64."""
    reg_max = boxes.shape[1] // 4
    cells = [(x, y, s) for s in STRIDES for y in range(height // s) for x in range(width // s)]
    terms, total = {"box": 0.0, "side": 0.0}, 0.0
    one_hot = torch.zeros_like(scores)
    for image in range(len(boxes)):
        rows = (batch["batch_idx"] == image).nonzero().flatten().tolist()
        sides = boxes[image].view(4, reg_max, -1)
        distance = (sides.softmax(1) * torch.arange(reg_max)[:, None]).sum(1) if reg_max > 1 else sides[:, 0]
        decoded = [(x + 0.5 - d[0], y + 0.5 - d[1], x + 0.5 + d[2], y + 0.5 + d[3], s)
                   for (x, y, s), d in zip(cells, distance.T, strict=True)]  # fmt: skip
        pairs, align = {}, {}
        for row in rows:
            cx, cy, w, h = (batch["bboxes"][row].double() * torch.tensor([width, height, width, height])).tolist()
            wide, high = max(w, 16), max(h, 16)
            inside = [a for a, (x, y, s) in enumerate(cells)
                      if abs((x + 0.5) * s - cx) < wide / 2 and abs((y + 0.5) * s - cy) < high / 2]  # fmt: skip
            for a in inside:
                s = cells[a][2]
                true = (cx - w / 2) / s, (cy - h / 2) / s, (cx + w / 2) / s, (cy + h / 2) / s
                overlap = plain_ciou(decoded[a][:4], true)
                label = int(batch["cls"].view(-1)[row])
                pairs[row, a] = overlap, true, label
                align[row, a] = scores[image, label, a].sigmoid().item() ** 0.5 * max(overlap.item(), 0) ** 6
        top = {row: sorted((a for r, a in pairs if r == row), key=lambda a, r=row: -align[r, a])[:topk] for row in rows}
        for a in {a for chosen in top.values() for a in chosen}:
            if len(takers := [row for row in rows if a in top[row]]) > 1:
                winner = max((r for r in rows if (r, a) in pairs), key=lambda r, i=a: max(pairs[r, i][0].item(), 0))
                for row in takers:
                    top[row].remove(a)
                top[winner].append(a)
        for row, chosen in top.items():
            if topk2 < topk:  # else a box may keep more, those it won from others
                chosen = sorted(chosen, key=lambda a, r=row: -align[r, a])[:topk2]
            best_align = max((align[row, a] for a in chosen), default=0)
            best_overlap = max((max(pairs[row, a][0].item(), 0) for a in chosen), default=0)
            for a in chosen:
                overlap, true, label = pairs[row, a]
                soft = align[row, a] / (best_align + 1e-9) * best_overlap
                x, y, s = cells[a]
                reach = x + 0.5 - true[0], y + 0.5 - true[1], true[2] - x - 0.5, true[3] - y - 0.5
                one_hot[image, label, a] = soft
                total += soft
                terms["box"] = terms["box"] + soft * (1 - overlap)
                for i, goal in enumerate(reach):
                    if reg_max == 1:
                        value = (sides[i, 0, a] - goal).abs() * s / (width, height)[i % 2]
                    else:
                        goal = min(max(goal, 0), reg_max - 1.01)
                        log_p, low = sides[i, :, a].log_softmax(0), math.floor(goal)
                        value = -log_p[low] * (low + 1 - goal) - log_p[low + 1] * (goal - low)
                    terms["side"] = terms["side"] + soft * value / 4
    entropy = -(one_hot * scores.sigmoid().log() + (1 - one_hot) * (-scores).sigmoid().log()).sum()
    return (7.5 * terms["box"] + 0.5 * entropy + 1.5 * terms["side"]) / max(total, 1)


def plain_ciou(a: tuple, b: tuple) -> Tensor:
    """Compute CIoU of two boxes; no gradient flows through the weight of the aspect ratio."""
    overlap = (min(a[2], b[2]) - max(a[0], b[0])) * (min(a[3], b[3]) - max(a[1], b[1]))
    if min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1]):
        overlap = overlap * 0
    wide, high, w, h = a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]
    iou = overlap / (wide * high + w * h - overlap + 1e-7)
    hull = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2 + 1e-7
    center = ((a[0] + a[2] - b[0] - b[2]) ** 2 + (a[1] + a[3] - b[1] - b[3]) ** 2) / 4
    aspect = 4 / math.pi**2 * (math.atan(w / (h + 1e-7)) - torch.atan(wide / (high + 1e-7))) ** 2
    return iou - center / hull - (aspect / (aspect - iou + 1 + 1e-7)).detach() * aspect


@pytest.mark.parametrize(("reg_max", "topk", "topk2"), [(16, 10, 10), (16, 1, 1), (1, 10, 10), (1, 7, 1)])
@pytest.mark.parametrize("seed", [0, 2])  # without conflicts over predictions of zero alignment, in no order
def test_gradients_are_those_of_plain_formulas_in_float64(reg_max, topk, topk2, seed):
    source = v8_loss_inputs(seed, (4, 0, 9), 96, 128, nc=3)
    preds, batch = raw_predictions(source, 96, 128, reg_max), batch_of(source)
    exact = [preds[name].detach().double().requires_grad_() for name in ("boxes", "scores")]
    expected = plain_loss(*exact, batch, 96, 128, topk, topk2)
    expected.backward()
    loss = sum(DetectionLoss(3, reg_max, topk=topk, topk2=topk2)(preds, batch).values())
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, reference in zip(("boxes", "scores"), exact, strict=True):
        difference = (preds[name].grad - reference.grad).abs().max()
        assert difference < 1e-5 * reference.grad.abs().max(), name


def test_labels_may_be_in_any_order():
    source = v8_loss_inputs(3, (6, 2, 5), 96, 96, nc=4)
    preds, batch = raw_predictions(source, 96, 96), batch_of(source)
    mixed = {key: value[torch.randperm(13, generator=torch.Generator().manual_seed(0))] for key, value in batch.items()}
    terms, same = (DetectionLoss(4)(preds, b) for b in (batch, mixed))
    assert {k: v.item() for k, v in terms.items()} == pytest.approx({k: v.item() for k, v in same.items()}, rel=1e-5)


@pytest.mark.parametrize("reg_max", [1, 16])
@pytest.mark.parametrize("boxes", [[], [[0.5, 0.5, 0, 0]], [[0.0, 1.0, 1e-6, 2.0]], [[0.5, 0.5, 1, 1]] * 3])
def test_without_boxes_and_with_degenerate_ones_the_loss_is_finite(boxes, reg_max):
    source = v8_loss_inputs(4, (1, 1), 64, 64, nc=2)
    preds, rows = raw_predictions(source, 64, 64, reg_max), torch.tensor(boxes).view(-1, 4)
    batch = {"cls": torch.zeros(len(rows), 1), "bboxes": rows, "batch_idx": torch.zeros(len(rows))}
    terms = DetectionLoss(2, reg_max)(preds, batch)
    sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values())
    assert preds["boxes"].grad.isfinite().all() and preds["scores"].grad.isfinite().all()
    assert bool(terms["box_loss"]) == (len(rows) == 3) and terms["cls_loss"] > 0
