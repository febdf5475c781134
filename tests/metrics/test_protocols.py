from dataclasses import replace

import numpy as np
import pytest

from tests.golden.detections import BY_CASE, NUMBERS
from tests.metrics.random_boxes import evaluated_by, random_set, to_boxes
from ultralytics.metrics.boxes import EvalBoxes
from ultralytics.metrics.protocols import PROTOCOLS, evaluate, explain_difference, find_protocol
from ultralytics.utils.errors import OptionError

PACKAGES = {"pycocotools": "coco", "faster_coco_eval": "coco", "faster_coco_eval_aitod": "aitod"}


def compare(package: str, seeds: range) -> None:
    for seed in seeds:
        made = random_set(seed)
        if not made[3]:  # these packages need a detection
            continue
        theirs, ours = evaluated_by(package, *made), evaluate(to_boxes(*made), PROTOCOLS[PACKAGES[package]])
        precision = np.nan_to_num(ours.precision, nan=-1).transpose(2, 3, 1, 0)  # (T, R, K, A)
        recall = np.nan_to_num(ours.recall, nan=-1).transpose(3, 2, 0, 1)  # (T, K, A, limits)
        np.testing.assert_allclose(precision, theirs.eval["precision"][..., -1], rtol=0, atol=1e-12, err_msg=str(seed))
        np.testing.assert_allclose(recall, theirs.eval["recall"], rtol=0, atol=1e-12, err_msg=str(seed))
        if PACKAGES[package] == "coco":
            np.testing.assert_allclose(list(ours.stats.values()), theirs.stats[:12], rtol=0, atol=1e-12)


@pytest.mark.parametrize("package", PACKAGES)
def test_random_sets_agree_with_other_packages(package):
    pytest.importorskip(package)
    compare(package, range(15))


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_a_thousand_sets_agree_with_other_packages(package):
    pytest.importorskip(package)
    compare(package, range(1000, 2100))


@BY_CASE
def test_rules_of_the_published_package_give_its_numbers(case):
    labels, found = (NUMBERS[f"c{case['case']}_{kind}"].astype(float) for kind in ("gt", "pred"))
    boxes = [np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]) for corners in (found[:, 3:], labels[:, 2:])]
    none = np.zeros(len(labels), bool)
    made = EvalBoxes.build(
        range(case["images"]), {c: str(c) for c in range(case["nc"])},
        (found[:, 0].astype(int), found[:, 1].astype(int), found[:, 2], boxes[0]),
        (labels[:, 0].astype(int), labels[:, 1].astype(int), boxes[1], boxes[1].prod(1), none, none),
    )  # fmt: skip
    ours = evaluate(made, PROTOCOLS["ultralytics"])
    np.testing.assert_allclose(ours.ap[0][ours.labels > 0], NUMBERS[f"c{case['case']}_ap"], rtol=0, atol=1e-9)


def two(found: list[tuple], labels: list[tuple], names: tuple[str, ...] = ("a",)) -> EvalBoxes:
    """Build one image: (class, score, box) and (class, box, crowd, ignored)."""
    cls, score, box = zip(*found, strict=True)
    kind, true, crowd, ignored = zip(*labels, strict=True)
    true = np.array(true, float)
    return EvalBoxes.build(
        [0], dict(enumerate(names)), (np.zeros(len(cls), int), np.array(cls), np.array(score), np.array(box, float)),
        (np.zeros(len(kind), int), np.array(kind), true, true[:, 2:].prod(1), np.array(crowd), np.array(ignored)),
    )  # fmt: skip


A, B, FAR = (0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 10, 10)


def test_equal_scores_are_ranked_by_the_ids_of_images():
    none = np.zeros(1, bool)
    for ids, ap in (([1, 2], 0.5), ([2, 1], 1), (["b", "a"], 1), (["1", 2], 1)):  # the image at 1 has the object
        found = np.arange(2), np.zeros(2, int), np.full(2, 0.5), np.array([A, A], float)
        labels = np.array([1]), np.array([0]), np.array([A], float), np.array([100.0]), none, none
        boxes = EvalBoxes.build(ids, {0: "a"}, found, labels)
        assert evaluate(boxes, PROTOCOLS["coco"]).stats["AP50"] == pytest.approx(ap)


def test_voc_has_no_second_choice_and_ignores_difficult_objects():
    boxes = two([(0, 0.9, A), (0, 0.8, A)], [(0, A, False, False), (0, B, False, False)])
    ap = {name: evaluate(boxes, protocol).stats["AP50"] for name, protocol in PROTOCOLS.items()}
    assert ap["voc"] == 0.5 and ap["voc07"] == pytest.approx(6 / 11) and ap["coco"] == 1
    boxes = two([(0, 0.9, FAR), (0, 0.8, A)], [(0, A, False, False), (0, FAR, False, True)])
    assert evaluate(boxes, PROTOCOLS["voc"]).stats["AP50"] == 1
    assert [evaluate(boxes, PROTOCOLS[name]).labels.tolist() for name in ("voc", "coco")] == [[1], [2]]


def test_visdrone_leaves_out_what_is_inside_ignored_regions_and_limits_an_image():
    labels = [(0, A, False, False), (0, FAR, False, False), (1, (40, 40, 30, 30), False, False)]
    found = [(0, 0.9, FAR), (0, 0.8, A)]
    result = evaluate(two(found, labels, ("a", "Ignored regions")), PROTOCOLS["visdrone"])
    assert result.stats["AP"] == 1 and list(result.class_rows()) == ["a"]
    limited = find_protocol("visdrone", limit=1)
    assert evaluate(two(found, labels[:2]), limited).stats["AR1"] == 0.5 and "limit 1" in limited.name


def test_areas_of_the_data_are_named():
    protocol = find_protocol("coco", {"tiny": (0, 50), "other": (50, 1000)})
    stats = evaluate(two([(0, 0.9, A)], [(0, A, False, False)]), protocol).stats
    assert protocol.name == "coco, areas of the data" and (stats["APtiny"], stats["APother"]) == (-1, 1)
    with pytest.raises(OptionError, match="did you mean 'coco'"):
        find_protocol("cocoo")


def test_steps_between_two_protocols_sum_to_their_difference():
    first, second = PROTOCOLS["ultralytics"], PROTOCOLS["coco"]
    for seed in range(8):
        boxes = to_boxes(*random_set(seed))
        steps = explain_difference(boxes, first, second)
        ends = [evaluate(boxes, protocol).stats for protocol in (first, second)]
        assert [steps[0][1:], steps[-1][1:]] == [(end["AP50"], end["AP"]) for end in ends]


def test_no_detections_and_no_labels_have_a_value():
    boxes = two([(0, 0.9, A)], [(0, A, False, False)])
    for protocol in PROTOCOLS.values():
        assert evaluate(boxes.with_rows(found=np.zeros(1, bool)), protocol).stats["AP50"] == 0
        empty = evaluate(boxes.with_rows(labels=np.zeros(1, bool)), protocol)
        assert empty.stats["AP50"] == -1 and not empty.class_rows()
    assert replace(boxes).pairs.iou.tolist() == [1]
