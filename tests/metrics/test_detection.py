import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests.golden.detections import BY_CASE, CASES, NUMBERS, matched
from ultralytics.metrics.detection import DetMetrics


@BY_CASE
def test_class_numbers_agree_with_the_reference(case):
    box = matched(case)[0].box
    ours = {"classes": box.ap_class_index, "ap": box.all_ap, "maps": box.maps, "p": box.p, "r": box.r, "f1": box.f1}
    ours |= {"tp_at_max_f1": box.curves.tp, "fp_at_max_f1": box.curves.fp}
    sampled = ("p_curve", "r_curve", "f1_curve", "prec_values")
    ours |= {f"{name}_every10": getattr(box.curves, name)[:, ::10] for name in sampled}
    for name, values in ours.items():
        np.testing.assert_allclose(values, NUMBERS[f"c{case['case']}_{name}"], rtol=0, atol=1e-9, err_msg=name)


@BY_CASE
def test_means_agree_with_the_reference(case):
    metrics = matched(case)[0]
    for name in ("mp", "mr", "map50", "map75", "map"):
        assert getattr(metrics.box, name) == pytest.approx(case[name], abs=1e-9), name
    assert metrics.results_dict == pytest.approx(case["results_dict"], abs=1e-9)
    assert metrics.fitness == pytest.approx(case["fitness"], abs=1e-9)
    assert metrics.labels.tolist() == case["nt_per_class"]
    assert metrics.images.tolist() == case["nt_per_image"]


def test_no_predictions_is_zero_and_no_labels_is_not_a_number():
    metrics = DetMetrics({0: "a"})
    metrics.add_image(torch.zeros(0, 6), torch.tensor([[0.0, 0, 9, 9]]), torch.zeros(1))
    assert metrics.process().results_dict == dict.fromkeys([*DetMetrics.keys, "fitness"], 0)
    assert metrics.confusion_matrix.matrix.tolist() == [[0, 0], [1, 0]]

    metrics = DetMetrics({0: "a"})
    metrics.add_image(torch.tensor([[0.0, 0, 9, 9, 0.9, 0]]), torch.zeros(0, 4), torch.zeros(0))
    assert all(math.isnan(v) for v in metrics.process().results_dict.values())
    assert metrics.confusion_matrix.matrix.tolist() == [[0, 1], [0, 0]]
    assert all(math.isnan(v) for v in DetMetrics({0: "a"}).process().results_dict.values())


def test_tables_have_class_images_and_numbers():
    metrics = matched(CASES[2])[0]
    summary = metrics.rows()
    assert [row["Class"] for row in summary] == ["all", "class 0", "class 1", "class 3", "class 4"]
    assert summary[0]["Instances"] == CASES[2]["n_gt"] and summary[0]["Images"] == CASES[2]["images"]
    lines = metrics.table().splitlines()
    assert len(lines) == 6 and lines[0].split()[-1] == "mAP50-95"
    assert len({len(line) for line in lines}) == 1
    assert len(metrics.table(classes=False).splitlines()) == 2


def test_shares_of_several_processes_join_into_the_whole():
    rng = np.random.default_rng(0)
    names = {0: "cat", 1: "dog", 2: "hen"}
    images = []
    for _ in range(11):
        corner, sides = rng.uniform(0, 60, (9, 2)), rng.uniform(10, 40, (9, 2))
        boxes = torch.from_numpy(np.hstack([corner, corner + sides])).float()
        scores = torch.linspace(0.95, 0.3, 9)[:, None].round(decimals=1)  # many are equal: their order must be kept
        found = torch.cat([boxes, scores, torch.from_numpy(rng.integers(0, 3, (9, 1)))], 1)
        images.append((found, boxes[:6] + 2, torch.from_numpy(rng.integers(0, 3, 6))))

    def collected(some):
        metrics = DetMetrics(names, confusion_conf=0.4)
        for image in some:
            metrics.add_image(*image)
        return metrics

    whole = collected(images).process()
    block, world = 2, 3
    shares = [
        [image for start in range(rank * block, 11, block * world) for image in images[start : start + block]]
        for rank in range(world)
    ]
    joined = DetMetrics.merge([collected(share) for share in shares], block).process()
    assert 0 < whole.box.map < 1
    assert joined.results_dict == whole.results_dict
    assert joined.rows() == whole.rows()
    assert np.array_equal(joined.confusion_matrix.matrix, whole.confusion_matrix.matrix)


def test_metrics_show_their_table():
    metrics = matched(CASES[2])[0]
    assert repr(metrics) == metrics.table() and metrics._repr_html_().count("<tr>") == 1 + len(metrics.rows())
    assert repr(metrics.box).startswith("BoxMetrics(P ") and repr(DetMetrics({0: "cat"})).startswith("Class")


def test_f1_has_one_definition(monkeypatch, tmp_path):
    metrics, figures = matched(CASES[2])[0], {}
    monkeypatch.setattr("ultralytics.metrics.detection.save_figure", lambda f, path, *_: figures.update({path.stem: f}))
    metrics.box.plot(metrics.names, tmp_path)
    total = metrics.rows()[0]
    curves, smooth = metrics.box.curves, np.convolve(metrics.box.curves.f1_curve.mean(0), np.ones(101) / 101, "valid")
    assert total["Conf"] == metrics.box.conf == curves.x[50 + smooth.argmax()]
    for kind in ("P", "R", "F1"):
        (legend,) = figures[f"Box{kind}_curve"].legends
        assert f"{total[kind]:.3f} at {total['Conf']:.3f}" in legend.get_texts()[-1].get_text()


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=["many", "few"])
def test_curves_are_drawn_with_names_of_any_script(case, tmp_path, recwarn):
    metrics = matched(case)[0]
    names = dict(metrics.names) | {0: "$x$", 1: "собака"}
    paths = metrics.box.plot(names, tmp_path)
    assert [path.name for path in paths] == [f"Box{kind}_curve.png" for kind in ("PR", "F1", "P", "R")]
    assert all(np.asarray(Image.open(path).convert("RGB")).std() > 5 for path in paths)
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
