"""Denoising queries against the reference."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden.inputs import targets
from tests.golden.losses import labels, read
from ultralytics.nn.modules.denoising import get_cdn_group

DENOISING, DENOISING_NUMBERS = read("rtdetr_denoising_8.4.190")


def cdn(case: dict, box_noise: float) -> tuple[Tensor, Tensor, Tensor, dict]:
    source = targets(np.random.default_rng(case["seed_targets"]), tuple(case["counts"]))
    embed = np.random.default_rng(case["seed_embed"]).standard_normal((80, 8), dtype=np.float32)
    batch = labels(source, case["counts"])
    return get_cdn_group(batch, 80, case["num_queries"], torch.from_numpy(embed), case["num_dn"], 0, box_noise)


@pytest.mark.parametrize("case", DENOISING["cases"], ids=lambda c: f"case{c['case']}")
def test_denoising_queries_are_laid_out_as_in_the_reference(case):
    content, boxes, mask, meta = cdn(case, box_noise=0)
    expected = {k: DENOISING_NUMBERS[f"c{case['case']}_{k}"] for k in ("embed", "bbox", "mask", "pos_idx", "pos_len")}
    assert np.array_equal(mask.numpy(), expected["mask"])
    assert np.array_equal(torch.cat(meta["dn_pos_idx"]).numpy(), expected["pos_idx"])
    assert [len(p) for p in meta["dn_pos_idx"]] == expected["pos_len"].tolist()
    assert (meta["dn_num_group"], meta["dn_num_split"]) == (case["dn_num_group"], case["dn_num_split"])
    assert content.shape == expected["embed"].shape
    if max(case["counts"]) <= case["num_dn"]:  # otherwise the reference's values are one random draw
        assert np.array_equal(content.numpy(), expected["embed"])
        assert np.array_equal(boxes.numpy(), expected["bbox"])


@pytest.mark.parametrize("case", DENOISING["cases"][:2], ids=lambda c: f"case{c['case']}")
def test_negatives_move_further_than_positives_as_in_the_reference(case):
    torch.manual_seed(0)
    spread = torch.stack([cdn(case, 0.5)[1].sigmoid() for _ in range(200)]).std(0).mean(-1).numpy()
    expected = DENOISING_NUMBERS[f"c{case['case']}_noise_spread"]
    used = expected > 0
    assert (spread[~used] == 0).all()
    assert np.median(spread[used] / expected[used]) == pytest.approx(1, abs=0.05)


def test_denoising_of_500_boxes_is_capped():
    batch = {"cls": torch.zeros(500, dtype=torch.long), "bboxes": torch.rand(500, 4), "gt_groups": [500]}
    content, _, mask, meta = get_cdn_group(batch, 1, 300, torch.rand(1, 8), num_dn=100)
    assert content.shape == (1, 200, 8) and mask.shape == (500, 500)
    assert len(set(meta["dn_gt_idx"][0].tolist())) == 100
