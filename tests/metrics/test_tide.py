import contextlib
import io

import numpy as np
import pytest

from tests.metrics.random_boxes import random_set, to_boxes
from ultralytics.metrics.tide import BEYOND, ERRORS, find_errors

NAMES = {
    "Cls": "class", "Loc": "localization", "Both": "both", "Dupe": "duplicate", "Bkg": "background", "Miss": "missed",
    "FalsePos": "false positive", "FalseNeg": "false negative",
}  # fmt: skip


def by_tidecv(images: int, nc: int, labels: list[dict], found: list[dict]) -> tuple[float, dict, dict]:
    import tidecv

    truth, detections = tidecv.Data("truth"), tidecv.Data("detections")
    for image in range(images):
        truth.add_image(image, str(image))
    for row in labels:
        add = truth.add_ignore_region if row["crowd"] else truth.add_ground_truth
        add(row["image"], row["cls"], row["box"])
    for row in found:
        detections.add_detection(row["image"], row["cls"], row["score"], row["box"])
    with contextlib.redirect_stdout(io.StringIO()):
        tide = tidecv.TIDE()
        run = tide.evaluate(truth, detections, mode=tidecv.TIDE.BOX, name="run")
        delta = tide.get_main_errors()["run"] | tide.get_special_errors()["run"]
    counts = {NAMES[kind.short_name]: len(errors) for kind, errors in run.error_dict.items()}
    return run.ap, {NAMES[key]: value for key, value in delta.items()}, counts


def compare(seeds: range) -> None:
    for seed in seeds:
        made = random_set(seed)
        try:
            ap, delta, counts = by_tidecv(*made)
        except ZeroDivisionError:  # of tidecv: nothing is left after a correction
            continue
        ours = find_errors(to_boxes(*made))
        scale = 100  # AP is 0 to 100
        assert ours.ap == pytest.approx(ap, abs=1e-12 * scale), seed
        assert ours.delta == pytest.approx(delta, abs=1e-12 * scale), seed
        if not any(row["crowd"] for row in made[2]):  # tidecv also counts detections in ignored regions
            assert ours.counts == counts, seed


def test_random_sets_agree_with_tidecv():
    pytest.importorskip("tidecv")
    compare(range(15))


@pytest.mark.slow
def test_a_thousand_sets_agree_with_tidecv():
    pytest.importorskip("tidecv")
    compare(range(1000, 2150))


def test_each_error_has_its_type():
    labels = [((0, 0, 10, 10), 0), ((100, 0, 10, 10), 1), ((200, 0, 10, 10), 0), ((300, 0, 10, 10), 1)]
    found = [
        ((0, 0, 10, 10), 0, "correct"), ((0, 0, 10, 9), 0, "duplicate"), ((100, 0, 10, 10), 0, "class"),
        ((200, 0, 10, 3), 0, "localization"), ((300, 0, 10, 3), 0, "both"), ((500, 0, 10, 10), 0, "background"),
        ((600, 0, 10, 10), 1, "ignored"), ((0, 0, 10, 10), 1, "beyond"),
    ]  # fmt: skip
    crowd = {"image": 0, "cls": 1, "box": (600, 0, 50, 50), "area": 2500, "crowd": True}
    truth = [{"image": 0, "cls": c, "box": box, "area": 100, "crowd": False} for box, c in labels]
    detections = [{"image": 0, "cls": c, "box": b, "score": 1 - i / 10} for i, (b, c, _) in enumerate(found)]
    result = find_errors(to_boxes(1, 2, [*truth, crowd], detections), limit=7)
    codes = [ERRORS[code] if code != BEYOND else "beyond" for code in result.detections.error]
    assert codes == [kind for *_, kind in found]
    assert result.detections.label.tolist() == [0, 0, 1, 2, -1, -1, -1, -1]
    np.testing.assert_allclose(result.detections.iou[:4], [1, 0.9, 1, 0.3])
    assert result.labels.match.tolist() == [0, -1, -1, -1, -1]
    assert result.labels.missed.tolist() == [False, False, False, True, False]
    assert result.counts == dict.fromkeys(list(NAMES.values())[:6], 1)
