"""Losses that scripts write from published parts; the default loss of the network has the same values and gradients."""

import pytest
import torch
from torch import nn

from tests.interop.test_overrides import YOLO_TINY
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.files import write_yaml
from ultralytics.utils.loss import BboxLoss, DFLoss, E2ELoss, v8DetectionLoss
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import TaskAlignedAssigner, bbox2dist, make_anchors

BATCH = {
    "img": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
    "cls": torch.tensor([[1.0], [3.0], [3.0]]), "batch_idx": torch.tensor([0.0, 0, 1]),
    "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.3], [0.3, 0.3, 0.2, 0.2], [0.6, 0.6, 0.5, 0.7]]),
}  # fmt: skip


class Boxes(nn.Module):
    """Loss of the boxes, written for release 8.3: seven arguments."""

    def __init__(self, reg_max=16):
        super().__init__()
        self.dfl_loss = DFLoss(reg_max)

    def forward(self, pred_dist, pred_bboxes, anchor_points, target_bboxes, target_scores, target_scores_sum, fg_mask):
        weight = target_scores.sum(-1)[fg_mask].unsqueeze(-1)
        overlap = bbox_iou(pred_bboxes[fg_mask], target_bboxes[fg_mask], xywh=False, CIoU=True)
        reach = bbox2dist(anchor_points, target_bboxes, self.dfl_loss.reg_max - 1)[fg_mask]
        side = self.dfl_loss(pred_dist[fg_mask].view(-1, self.dfl_loss.reg_max), reach)
        return tuple((x * weight).sum() / target_scores_sum for x in (1 - overlap, side))


class Maps(v8DetectionLoss):
    """The whole loss, written for release 8.3: the output is a list of maps."""

    def __call__(self, preds, batch):
        feats = preds[1] if isinstance(preds, tuple) else preds
        count = feats[0].shape[0]
        joined = torch.cat([level.view(count, self.no, -1) for level in feats], 2)
        dist, scores = joined.split((self.reg_max * 4, self.nc), 1)
        dist, scores = dist.permute(0, 2, 1).contiguous(), scores.permute(0, 2, 1).contiguous()
        size = torch.tensor(feats[0].shape[2:], device=self.device, dtype=scores.dtype) * self.stride[0]
        points, strides = make_anchors(feats, self.stride, 0.5)
        rows = torch.cat((batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), batch["bboxes"]), 1)
        rows = self.preprocess(rows.to(self.device), count, scale_tensor=size[[1, 0, 1, 0]])
        labels, corners = rows.split((1, 4), 2)
        boxes = self.bbox_decode(points, dist)
        _, targets, quality, assigned, _ = self.assigner(
            scores.detach().sigmoid(), (boxes.detach() * strides).type(corners.dtype), points * strides, labels,
            corners, corners.sum(2, keepdim=True).gt_(0.0))  # fmt: skip
        total, loss = max(quality.sum(), 1), torch.zeros(3, device=self.device)
        loss[1] = self.bce(scores, quality.to(scores.dtype)).sum() / total
        if assigned.sum():
            targets /= strides
            loss[0], loss[2] = self.bbox_loss(dist, boxes, points, targets, quality, total, assigned)
        loss[0], loss[1], loss[2] = loss[0] * self.hyp.box, loss[1] * self.hyp.cls, loss[2] * self.hyp.dfl
        return loss.sum() * count, loss.detach()


class Named(v8DetectionLoss):
    """A term of its own, written for release 8.4: the output is a mapping."""

    loss_names = "box_loss", "cls_loss", "dfl_loss", "size_loss"

    def __init__(self, model, tal_topk=10):
        super().__init__(model, tal_topk)
        self.bbox_loss, self.network = Boxes(self.reg_max), model

    def loss(self, preds, batch):
        parts, terms, items = self.get_assigned_targets_and_loss(preds, batch)
        own = self.bbox_decode(parts[3], preds["boxes"].permute(0, 2, 1)).abs().mean()
        return torch.cat((terms, own[None])) * len(preds["scores"]), {**items, "size_loss": own.detach()}


class Alone:
    """A loss without a base class, pasted from release 8.0."""

    def __init__(self, model):
        head = model.model[-1]
        self.parts, self.proj = Maps(model), torch.arange(head.reg_max, dtype=torch.float)
        self.bce, self.assigner = nn.BCEWithLogitsLoss(reduction="none"), TaskAlignedAssigner(10, head.nc, 0.5, 6.0)

    def __call__(self, preds, batch):
        return self.parts(preds, batch)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return DetectionModel(YOLO_TINY).train()


def compute(network, criterion):
    """Return total, items and a gradient."""
    network.criterion = criterion
    total, items = network.loss(BATCH)
    return total, items, torch.autograd.grad(total, network.model[0].conv.weight)[0]


@pytest.mark.parametrize("kind", [v8DetectionLoss, Maps, Named, Alone])
def test_a_written_loss_is_that_of_the_network(kind, network):
    own, criterion = compute(network, None), kind(network)
    total, items, gradient = compute(network, criterion)
    assert torch.allclose(items[:3], own[1], rtol=1e-5)
    assert kind is Named or (torch.allclose(total, own[0]) and torch.allclose(gradient, own[2], rtol=1e-3, atol=1e-4))
    with torch.inference_mode():
        assert torch.allclose(network.eval().loss(BATCH)[1][:3], own[1], rtol=0.5)
    network.train()


@pytest.mark.parametrize("place", ["init_criterion", "callback", "name"])
def test_a_written_loss_trains(place, shapes, tmp_path, monkeypatch):
    class Mine(DetectionModel):
        def init_criterion(self):
            return Named(self) if place == "init_criterion" else super().init_criterion()

    class Trainer(DetectionTrainer):
        def get_model(self, cfg=None, weights=None, verbose=True):
            return Mine(cfg, nc=self.data["nc"], verbose=verbose)

        def get_validator(self):
            self.loss_names = Named.loss_names[: 3 if place == "callback" else 4]
            return super().get_validator()

    if place == "name":
        monkeypatch.setattr("ultralytics.nn.tasks.v8DetectionLoss", Named, raising=False)
    write_yaml(tmp_path / "tiny.yaml", YOLO_TINY)
    given = {"imgsz": 64, "batch": 2, "epochs": 1, "workers": 0, "device": "cpu", "plots": False, "loss_iou": "giou"}
    given |= {"model": str(tmp_path / "tiny.yaml"), "data": str(shapes), "project": str(tmp_path)}
    trainer = Trainer(overrides=given)
    if place == "callback":
        trainer.add_callback("on_train_start", lambda t: setattr(t.model, "criterion", Maps(t.model)))
    trainer.train()
    assert type(trainer.model.criterion) is (Maps if place == "callback" else Named) and trainer.sums_images
    assert trainer.losses.keys() == {*Named.loss_names[: 3 if place == "callback" else 4]}
    assert trainer.losses["box_loss"] > 0 and f"val/{trainer.loss_names[-1]}" in trainer.csv.read_text()


def test_replaced_parts_of_the_loss_are_used(network, monkeypatch):
    """Each value is twice that of the network, or that of fewer predictions."""
    own = compute(network, None)[1]

    class Fewer(TaskAlignedAssigner):
        def __init__(self, topk, num_classes, alpha, beta, eps=1e-9):
            super().__init__(1, num_classes, alpha, beta, eps=eps)

    class Double(BboxLoss):
        def forward(self, *args):
            return tuple(2 * x for x in super().forward(*args))

    monkeypatch.setattr("ultralytics.utils.loss.BboxLoss", Double, raising=False)
    box, cls, side = compute(network, None)[1] / own
    assert (round(box.item(), 4), round(cls.item(), 4), round(side.item(), 4)) == (2, 1, 2)
    monkeypatch.undo()
    monkeypatch.setattr("ultralytics.utils.tal.TaskAlignedAssigner", Fewer, raising=False)
    fewer = compute(network, None)[1]
    monkeypatch.undo()
    criterion = v8DetectionLoss(network)
    criterion.assigner = TaskAlignedAssigner(topk=1, num_classes=6, alpha=0.5, beta=6.0)
    assert not torch.allclose(fewer, own) and torch.allclose(compute(network, criterion)[1], fewer)
    for place in ("loss", "tal"):
        monkeypatch.setattr(f"ultralytics.utils.{place}.bbox_iou", lambda a, b, **how: bbox_iou(a, b, **how) / 2,
                            raising=False)  # fmt: skip
        changed = compute(network, None)[1]
        assert (changed[0] > own[0]) if place == "loss" else changed[1] < own[1]
        monkeypatch.undo()


@pytest.mark.parametrize("file", ["yolo26n.yaml", "yolov10n.yaml"])
def test_two_branches_have_the_values_of_the_network(file):
    two = DetectionModel(file, nc=6).train()
    own, criterion = two.loss(BATCH), E2ELoss(two, v8DetectionLoss)
    two.criterion.set_epoch(1, 3)
    criterion.set_epoch(1, 3)
    own, two.criterion = two.loss(BATCH), criterion
    total, items = two.loss(BATCH)
    assert torch.allclose(total, own[0], rtol=1e-4) and torch.allclose(items, own[1], rtol=1e-4)
