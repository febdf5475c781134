"""IoU losses against plain formulas of their papers, and their gradients."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from ultralytics.cfg.options import get_cfg
from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.losses.iou import IOU_LOSSES, IoULoss, iou, iou_loss, shape_iou_loss
from ultralytics.utils.errors import OptionError
from ultralytics.utils.torch_utils import without_training_parts

SIZE = (640.0, 480.0)
DETACHED = {"ciou", "wiou"}  # a weight of these has no gradient


def pairs(seed: int = 0, n: int = 12) -> tuple[Tensor, Tensor]:
    """Return predicted and true corners in pixels, float64: partly overlapping, nested and apart."""
    generator = torch.Generator().manual_seed(seed)
    center = 100 + 200 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    size = 20 + 80 * torch.rand(2, n, 2, generator=generator, dtype=torch.float64)
    shift = 40 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    pred, target = (torch.cat((c - s / 2, c + s / 2), -1) for c, s in zip((center + shift, center), size, strict=True))
    return pred.requires_grad_(), target


def plain(kind: str, p: Tensor, t: Tensor, inner: float | None = None, focaler: list | None = None) -> Tensor:
    """Compute the loss of one pair as its paper defines it."""

    def overlap(p, t):
        w = (torch.min(p[2], t[2]) - torch.max(p[0], t[0])).clamp(min=0)
        h = (torch.min(p[3], t[3]) - torch.max(p[1], t[1])).clamp(min=0)
        return w * h, (p[2] - p[0]) * (p[3] - p[1]) + (t[2] - t[0]) * (t[3] - t[1]) - w * h

    both, union = overlap(p, t)
    iou = both / union
    w, h, wt, ht = p[2] - p[0], p[3] - p[1], t[2] - t[0], t[3] - t[1]
    dx, dy = (p[0] + p[2] - t[0] - t[2]) / 2, (p[1] + p[3] - t[1] - t[3]) / 2
    cw, ch = torch.max(p[2], t[2]) - torch.min(p[0], t[0]), torch.max(p[3], t[3]) - torch.min(p[1], t[1])
    distance = (dx**2 + dy**2) / (cw**2 + ch**2)
    shape = sum((1 - torch.exp(-abs(a - b) / max(a, b))) ** 4 for a, b in ((w, wt), (h, ht)))
    if kind == "giou":
        loss = 1 - iou + (cw * ch - union) / (cw * ch)
    elif kind == "diou":
        loss = 1 - iou + distance
    elif kind == "ciou":
        v = 4 / math.pi**2 * (torch.atan(wt / ht) - torch.atan(w / h)) ** 2
        loss = 1 - iou + distance + (v / (1 - iou + v)).detach() * v
    elif kind == "eiou":
        loss = 1 - iou + distance + (w - wt) ** 2 / cw**2 + (h - ht) ** 2 / ch**2
    elif kind == "siou":
        sigma = (dx**2 + dy**2).sqrt()
        angle = 1 - 2 * torch.sin(torch.arcsin(abs(dy) / sigma) - math.pi / 4) ** 2
        rho = (dx / cw) ** 2, (dy / ch) ** 2
        loss = 1 - iou + (sum(1 - torch.exp(-(2 - angle) * r) for r in rho) + shape) / 2
    elif kind == "mpdiou":
        d1, d2 = (p[0] - t[0]) ** 2 + (p[1] - t[1]) ** 2, (p[2] - t[2]) ** 2 + (p[3] - t[3]) ** 2
        loss = 1 - (iou - (d1 + d2) / (SIZE[0] ** 2 + SIZE[1] ** 2))
    elif kind == "shape":  # scale 0: weights 1
        loss = 1 - iou + distance + shape / 2
    elif kind == "wiou":
        loss = torch.exp((dx**2 + dy**2) / (cw**2 + ch**2).detach()) * (1 - iou)
    else:
        wasserstein = dx**2 + dy**2 + ((w - wt) / 2) ** 2 + ((h - ht) / 2) ** 2
        side = math.sqrt(SIZE[0] * SIZE[1])  # 12.8 pixels in an image of 800
        return 1 - torch.exp(-wasserstein.sqrt() / (side * 12.8 / 800))
    changed = iou
    if inner:
        middle, half = zip(*(((c[:2] + c[2:]) / 2, (c[2:] - c[:2]) / 2 * inner) for c in (p, t)), strict=True)
        grown = [torch.cat((m - h, m + h)) for m, h in zip(middle, half, strict=True)]
        both, union = overlap(*grown)
        changed = both / union
    if focaler:
        changed = ((changed - focaler[0]) / (focaler[1] - focaler[0])).clamp(0, 1)
    return loss + iou - changed


MODIFIERS = [{}, {"inner": 0.7}, {"focaler": [0.0, 0.95]}, {"inner": 1.2, "focaler": [0.1, 0.6]}]
CASES = [(kind, changes) for kind, changes in product(IOU_LOSSES, MODIFIERS) if kind != "nwd" or not changes]


@pytest.mark.parametrize(("kind", "changes"), CASES, ids=str)
def test_values_and_gradients_are_those_of_the_papers(kind, changes):
    pred, target = pairs()
    loss = iou_loss(kind, pred, target, SIZE, **changes)
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    expected = torch.stack([plain(kind, p, t, **changes) for p, t in zip(pred, target, strict=True)])
    (reference,) = torch.autograd.grad(expected.sum(), pred)
    assert (loss - expected).abs().max() < 1e-7
    assert (gradient - reference).abs().max() < 1e-6 * reference.abs().max()


@pytest.mark.parametrize(("kind", "changes"), [case for case in CASES if case[0] not in DETACHED], ids=str)
def test_gradients_are_those_of_finite_differences(kind, changes):
    pred, target = pairs(1, 5)
    assert torch.autograd.gradcheck(lambda p: iou_loss(kind, p, target, SIZE, **changes), pred)


@pytest.mark.parametrize("kind", IOU_LOSSES)
def test_equal_boxes_have_no_loss_and_degenerate_boxes_a_finite_one(kind):
    boxes = torch.tensor([[10.0, 10, 30, 20], [5, 5, 5, 5], [0, 0, 1e-4, 1e4], [7, 7, 7, 9], [-1e4, -1e4, 1e4, 1e4]])
    assert iou_loss(kind, boxes[:1], boxes[:1], SIZE).abs().max() < 1e-4
    first, second = (index.flatten() for index in torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij"))
    pred = boxes[first].requires_grad_()
    modifiers = {} if kind == "nwd" else {"inner": 0.7, "focaler": [0.0, 0.95]}
    for changes in ({}, modifiers):
        loss = iou_loss(kind, pred, boxes[second], SIZE, **changes)
        (gradient,) = torch.autograd.grad(loss.sum(), pred)
        assert loss.isfinite().all() and gradient.isfinite().all()
    assert iou_loss(kind, pred[:0], boxes[:0], SIZE).shape == (0,)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_shape_iou_weighs_by_the_sides_of_the_true_box(scale):
    target, moved = torch.tensor([[0.0, 0, 40, 10]]), torch.tensor([[3.0, 2, 43, 12]])
    wide, high = (2 * side**scale / (40**scale + 10**scale) for side in (40, 10))
    distance = (high * 3**2 + wide * 2**2) / (43**2 + 12**2)  # along x weighted by the height, along y by the width
    expected = 1 - iou(moved, target) + distance
    assert shape_iou_loss(moved, target, SIZE, scale).item() == pytest.approx(expected.item(), rel=1e-5)
    wider = torch.tensor([[-20.0, 0, 60, 10]])
    expected = 1 - 0.5 + (1 - math.exp(-high * 40 / 80)) ** 4 / 2
    assert shape_iou_loss(wider, target, SIZE, scale).item() == pytest.approx(expected, rel=1e-5)


def test_wise_iou_focuses_by_the_running_mean_and_resumes():
    (pred, target), (pred2, target2) = pairs(2, 64), pairs(3, 64)
    loss = IoULoss("wiou")
    loss(pred, target)
    values = loss(pred2, target2)
    losses = 1 - iou(pred, target), 1 - iou(pred2, target2)
    beta = losses[1] / torch.cat(losses).mean()
    expected = beta / (3 * 1.9 ** (beta - 3)) * iou_loss("wiou", pred2, target2)
    assert (values - expected).abs().max() < 1e-6
    before = loss.focus.mean.item()
    assert torch.equal(loss.eval()(pred2, target2), values) and loss.focus.mean.item() == before

    resumed = IoULoss("wiou")
    resumed.load_state_dict(loss.state_dict())
    assert torch.equal(resumed(pred, target), loss.train()(pred, target))
    assert resumed.focus.mean == loss.focus.mean and resumed(pred[:0], target[:0]).shape == (0,)
    average = without_training_parts(loss)  # of the averaged network: no running mean, version 1
    assert not average.state_dict() and torch.equal(average(pred, target), iou_loss("wiou", pred, target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_iou": "sliou"}, r"loss_iou: expected one of giou, .*, got 'sliou'; did you mean 'siou'\?"),
        ({"focaler": [0.95, 0.0]}, r"focaler: expected \[d, u\] with 0 <= d < u <= 1, got \[0.95, 0.0\]"),
        ({"focaler": [0.5]}, "focaler: expected"),
        ({"loss_iou": "nwd", "inner": 0.7}, "loss_iou=nwd does not have; remove them"),
    ],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises(OptionError, match=message):
        RTDETRDetectionLoss.from_options(get_cfg(overrides=options), nc=3)


def test_options_have_types_and_ranges():
    assert get_cfg(overrides={"focaler": (0, 0.95)}).focaler == [0.0, 0.95]
    for option, value in (("inner", 0), ("inner", "0.7"), ("focaler", [0, 1.5]), ("focaler", 0.5)):
        with pytest.raises(OptionError, match=f"{option}: expected"):
            get_cfg(overrides={option: value})


@pytest.mark.parametrize("kind", IOU_LOSSES)
def test_both_families_take_every_loss(kind):
    options = get_cfg(overrides={"loss_iou": kind})
    assert RTDETRDetectionLoss.from_options(options, nc=3).iou.kind == kind
    assert IoULoss.from_options(options, default="ciou").kind == kind
    assert IoULoss.from_options(get_cfg(), default="ciou").kind == "ciou"
