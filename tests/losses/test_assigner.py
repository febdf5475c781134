"""Task-aligned assignment against the reference, and its edge cases."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.golden.inputs import assigner_inputs
from ultralytics.losses import assigner
from ultralytics.losses.assigner import TaskAlignedAssigner, assign_dense
from ultralytics.nn.modules.one_to_many import OneToManyHead

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "tal_8.4.190.json").read_text())["cases"]
NUMBERS = np.load(GOLDEN / "tal_8.4.190.npz")


def assign(case: dict) -> tuple[torch.Tensor, ...]:
    inputs = [torch.from_numpy(array) for array in assigner_inputs(case["seed"], case["counts"], case["nc"])]
    return TaskAlignedAssigner(num_classes=case["nc"], **case["options"])(*inputs)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"case{c['case']}")
def test_assignment_agrees_with_the_reference(case):
    labels, boxes, scores, assigned, owner = assign(case)
    expected = {k: NUMBERS[f"c{case['case']}_{k}"] for k in ("place", "label", "owner", "score")}
    assert np.array_equal(assigned.nonzero().numpy(), expected["place"])
    assert np.array_equal(labels[assigned].numpy(), expected["label"])
    assert np.array_equal(owner[assigned].numpy(), expected["owner"])
    assert np.abs(scores[assigned].amax(-1).numpy() - expected["score"]).max() < 1e-6
    assert scores.double().sum().item() == pytest.approx(case["score_sum"], rel=1e-6)  # none elsewhere
    gt = torch.from_numpy(assigner_inputs(case["seed"], case["counts"], case["nc"])[4])
    image = assigned.nonzero()[:, 0]
    assert torch.equal(boxes[assigned], gt[image, owner[assigned]])


@pytest.mark.parametrize("case", [CASES[1], CASES[4]], ids=lambda c: f"case{c['case']}")
def test_images_one_by_one_give_the_same(case, monkeypatch):
    together = assign(case)
    monkeypatch.setattr(assigner, "MAX_PAIRS", 1)
    assert all(torch.equal(a, b) for a, b in zip(together, assign(case), strict=True))


@pytest.mark.parametrize("padding", [0, 2])
def test_without_boxes_nothing_is_assigned(padding):
    scores, boxes, points, *_ = (torch.from_numpy(a) for a in assigner_inputs(0, [1, 1], 3))
    none = (torch.zeros(2, padding, size) for size in (1, 4, 1))
    labels, target_boxes, target_scores, assigned, owner = TaskAlignedAssigner(num_classes=3)(
        scores, boxes, points, *none
    )
    assert not assigned.any() and not target_scores.any() and (padding or (labels == 3).all())
    assert target_boxes.shape == boxes.shape and owner.shape == assigned.shape == scores.shape[:2]


def test_two_equal_boxes_share_nothing():
    scores, boxes, points, labels, gt, real = (torch.from_numpy(a) for a in assigner_inputs(5, [2], 2))
    labels, gt = labels[:, :1].repeat(1, 2, 1), gt[:, :1].repeat(1, 2, 1)
    owner, assigned = (TaskAlignedAssigner(num_classes=2)(scores, boxes, points, labels, gt, real)[i] for i in (4, 3))
    assert assigned.any() and (owner[assigned] == 0).all()


def test_500_boxes_need_bounded_memory():
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes():
                    self.numel = max(self.numel, tensor.untyped_storage().nbytes() // 4)
            return out

    counts = [500, 500, 0, 500]
    batch = {"cls": torch.randint(2, (1500,)), "bboxes": 0.2 + 0.3 * torch.rand(1500, 4), "gt_groups": counts}
    shapes = [(80, 80), (40, 40), (20, 20)]  # of an image of 640 pixels
    dense = OneToManyHead(8, 2)(torch.rand(4, 8400, 8), shapes)
    with Largest() as largest:
        _, _, soft = assign_dense(TaskAlignedAssigner(num_classes=2), dense, batch)
    assert largest.numel <= assigner.MAX_PAIRS
    assert len(soft) and soft.isfinite().all()
