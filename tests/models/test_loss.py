"""RT-DETR loss, matching and denoising against the reference."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden.fill import fill
from tests.golden.inputs import rtdetr_loss_inputs, targets, train_batch
from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.losses.matcher import HungarianMatcher
from ultralytics.nn.modules.denoising import get_cdn_group
from ultralytics.nn.tasks import RTDETRDetectionModel

GOLDEN = Path(__file__).parents[1] / "golden"


def read(name: str) -> tuple[dict, np.lib.npyio.NpzFile]:
    return json.loads((GOLDEN / f"{name}.json").read_text()), np.load(GOLDEN / f"{name}.npz")


LOSS, LOSS_NUMBERS = read("rtdetr_loss_8.4.190")
DENOISING, DENOISING_NUMBERS = read("rtdetr_denoising_8.4.190")


def labels(source: dict, counts: list[int]) -> dict:
    return {
        "cls": torch.from_numpy(source["cls"]).long().view(-1),
        "bboxes": torch.from_numpy(source["bboxes"]),
        "gt_groups": list(counts),
    }


def denoising_inputs(case: dict, source: dict) -> tuple:
    """Denoising predictions and the positions they stand at; nothing where the batch has no boxes."""
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


@pytest.mark.parametrize("case", [c for c in LOSS["cases"] if c["config"] == "vfl"], ids=lambda c: f"case{c['case']}")
def test_matching_is_that_of_the_reference(case):
    source = rtdetr_loss_inputs(case["seed"], tuple(case["counts"]), dn_queries=case["dn_queries"])
    boxes, logits, batch = (
        torch.from_numpy(source["boxes"]),
        torch.from_numpy(source["logits"]),
        labels(source, case["counts"]),
    )
    layers = HungarianMatcher().match_layers(boxes, logits, batch["bboxes"], batch["cls"], batch["gt_groups"])
    for call, layer in enumerate((3, 0, 1, 2)):  # the reference matches its last layer first
        ours = {
            (i, q, g) for i, (qs, gs) in enumerate(layers[layer]) for q, g in zip(qs.tolist(), gs.tolist(), strict=True)
        }
        assert ours == set(map(tuple, LOSS_NUMBERS[f"c{case['case']}_match{call}"].T.tolist()))


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


@pytest.fixture(scope="module")
def model() -> RTDETRDetectionModel:
    return RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=80, overrides={"num_denoising": 0})


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
    model = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=3, overrides={"num_queries": 20}).train()
    batch = {"img": torch.rand(2, 3, 64, 64), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    total, items = model.loss({**batch, "batch_idx": torch.zeros(0)})
    total.backward()
    assert total.isfinite() and items[0] == items[2] == 0
    assert all(p.grad is not None for p in model.model[-1].enc_score_head.parameters())


def test_every_parameter_gets_a_gradient():
    model = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=3, overrides={"num_queries": 20}).train()
    batch = train_batch(0, 64, 64, (2, 1), nc=3)
    model.loss({k: torch.from_numpy(v) for k, v in batch.items()})[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_validation_loss_needs_no_second_forward():
    model = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=3, overrides={"num_queries": 20}).eval()
    batch = {k: torch.from_numpy(v) for k, v in train_batch(0, 64, 64, (2, 1), nc=3).items()}
    with torch.no_grad():
        assert torch.equal(model.loss(batch, model(batch["img"]))[1], model.loss(batch)[1])
