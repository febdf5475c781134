"""Hungarian matching against the reference."""

import pytest
import torch

from tests.golden.inputs import rtdetr_loss_inputs
from tests.golden.losses import LOSS, LOSS_NUMBERS, labels
from ultralytics.losses.detr import COST_GAIN
from ultralytics.losses.matcher import HungarianMatcher


@pytest.mark.parametrize("case", [c for c in LOSS["cases"] if c["config"] == "vfl"], ids=lambda c: f"case{c['case']}")
def test_matching_agrees_with_the_reference(case):
    source = rtdetr_loss_inputs(case["seed"], tuple(case["counts"]), dn_queries=case["dn_queries"])
    boxes, logits = torch.from_numpy(source["boxes"]), torch.from_numpy(source["logits"])
    batch = labels(source, case["counts"])
    layers = HungarianMatcher(COST_GAIN).match_layers(boxes, logits, batch["bboxes"], batch["cls"], batch["gt_groups"])
    for call, layer in enumerate((3, 0, 1, 2)):  # the reference matches its last layer first
        pairs = [
            (image, *pair)
            for image, match in enumerate(layers[layer])
            for pair in zip(*(m.tolist() for m in match), strict=True)
        ]
        assert set(pairs) == set(map(tuple, LOSS_NUMBERS[f"c{case['case']}_match{call}"].T.tolist()))


def test_costs_that_are_not_finite_are_matched_last():
    logits = torch.tensor([[[float("nan")], [0.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]] * 2])
    ((query, _),) = HungarianMatcher()(boxes, logits, boxes[0, :1], torch.tensor([0]), [1])
    assert query.tolist() == [1]
