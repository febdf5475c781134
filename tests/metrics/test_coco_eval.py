import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.golden import inputs
from ultralytics.data.labels import ImageLabels
from ultralytics.metrics.coco_eval import STATS, coco_annotations, evaluate_coco
from ultralytics.utils.errors import DataError, MissingPackageError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "coco_eval.json").read_text())


def coco_case(case: dict) -> tuple[dict, list[dict]]:
    """Return annotations and predictions of a reference case, made by its recipe."""
    labels, predictions = inputs.detection_set(case["seed"], case["images"], case["nc"], case["crowd"])
    annotations = []
    for number, (image, cls, x1, y1, x2, y2) in enumerate(labels.astype(float), 1):
        w, h = x2 - x1, y2 - y1
        entry = {"id": number, "image_id": int(image) + 1, "category_id": int(cls) + 1, "iscrowd": 0}
        annotations.append({**entry, "bbox": [x1, y1, w, h], "area": w * h})
    results = [
        {"image_id": int(i) + 1, "category_id": int(c) + 1, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for i, c, score, x1, y1, x2, y2 in predictions.astype(float)
    ]
    images = [{"id": i + 1, "width": 640, "height": 480} for i in range(case["images"])]
    categories = [{"id": c + 1, "name": str(c)} for c in range(case["nc"])]
    return {"images": images, "annotations": annotations, "categories": categories}, results


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"case{c['case']}")
def test_official_numbers_agree_with_the_reference(case):
    pytest.importorskip("faster_coco_eval")
    result = evaluate_coco(*coco_case(case))
    assert list(result.stats) == GOLDEN["stats_order"] == list(STATS)
    np.testing.assert_allclose(list(result.stats.values()), case["pycocotools_stats"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(list(result.per_class.values()), case["pycocotools_ap_per_class"], rtol=0, atol=1e-9)
    assert str(result).count("\n") == 4


def test_files_and_names_as_image_ids_give_the_same_numbers(tmp_path):
    pytest.importorskip("faster_coco_eval")
    content, results = coco_case(GOLDEN["cases"][0])
    expected = evaluate_coco(content, results).stats
    for entries, field in ((content["images"], "id"), (content["annotations"], "image_id"), (results, "image_id")):
        for entry in entries:
            entry[field] = f"图{entry[field]}"
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    assert evaluate_coco(file, results).stats == pytest.approx(expected)


def test_no_predictions_score_nothing_and_fewer_images_can_be_judged():
    pytest.importorskip("faster_coco_eval")
    content, results = coco_case(GOLDEN["cases"][0])
    assert evaluate_coco(content, []).stats["AP"] == 0
    first = [entry for entry in results if entry["image_id"] <= 3]
    some = evaluate_coco(content, first, image_ids=[1, 2, 3]).stats["AP"]
    assert some > evaluate_coco(content, first).stats["AP"]


def test_images_with_one_id_are_refused():
    pytest.importorskip("faster_coco_eval")
    content, results = coco_case(GOLDEN["cases"][0])
    content["images"][4]["id"] = 1
    with pytest.raises(DataError, match="several images have the id 1"):
        evaluate_coco(content, results)
    content["images"][4]["id"] = 99
    with pytest.raises(DataError, match="boxes of image 5, which is not among the images"):
        evaluate_coco(content, [])


def test_ids_may_be_texts():
    pytest.importorskip("faster_coco_eval")
    content, results = coco_case(GOLDEN["cases"][0])
    expected = evaluate_coco(content, results)
    entries = [*content["annotations"], *results]
    for key, listed in (("image_id", content["images"]), ("category_id", content["categories"])):
        for entry in entries:
            entry[key] = f"x{entry[key]}"
        for entry in listed:
            entry["id"] = f"x{entry['id']}"
    found = evaluate_coco(content, results)
    assert found.stats == expected.stats
    assert found.per_class == {f"x{category}": value for category, value in expected.per_class.items()}


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingPackageError, match='pip install "faster-coco-eval"'):
        evaluate_coco({}, [])


def test_annotations_from_labels_are_pixels():
    labels = ImageLabels(
        Path("a/b.jpg"), (100, 200), np.array([1]), np.array([[0.5, 0.5, 0.1, 0.2]], np.float32), np.array([True]), "b"
    )
    content = coco_annotations([labels], {0: "cat", 1: "dog"}, category_ids=[7, 9])
    (entry,) = content["annotations"]
    assert entry["bbox"] == pytest.approx([90, 40, 20, 20]) and entry["area"] == pytest.approx(400)
    assert (entry["category_id"], entry["iscrowd"], entry["image_id"]) == (9, 1, "b")
    assert content["images"] == [{"id": "b", "file_name": "b.jpg", "height": 100, "width": 200}]
    assert content["categories"] == [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
