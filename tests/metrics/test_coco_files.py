import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden import inputs
from ultralytics.data.labels import ImageLabels
from ultralytics.metrics.boxes import EvalBoxes
from ultralytics.metrics.coco_files import coco_annotations, read_boxes
from ultralytics.metrics.protocols import PROTOCOLS, evaluate

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


def read(folder: Path, content: dict, results: list) -> tuple[EvalBoxes, list[str]]:
    """Write both files and read them."""
    files = [folder / "truth.json", folder / "found.json"]
    for file, data in zip(files, (content, results), strict=True):
        file.write_text(json.dumps(data), encoding="utf-8")
    (boxes,), messages = read_boxes(files[0], [files[1]])
    return boxes, messages


def stats_of(folder: Path, content: dict, results: list) -> dict[str, float]:
    return evaluate(read(folder, content, results)[0], PROTOCOLS["coco"]).stats


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"case{c['case']}")
def test_official_numbers_agree_with_the_reference(case, tmp_path):
    result = evaluate(read(tmp_path, *coco_case(case))[0], PROTOCOLS["coco"])
    assert list(result.stats) == GOLDEN["stats_order"]
    np.testing.assert_allclose(list(result.stats.values()), case["pycocotools_stats"], rtol=0, atol=1e-12)
    own = [row["AP"] for row in result.class_rows().values()]
    np.testing.assert_allclose(own, case["pycocotools_ap_per_class"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["图{}", "x{}"])
def test_ids_may_be_texts(tmp_path, form):
    content, results = coco_case(GOLDEN["cases"][0])
    expected = stats_of(tmp_path, content, results)
    as_texts = [{**entry, "image_id": str(entry["image_id"])} for entry in results]
    assert stats_of(tmp_path, content, as_texts) == expected
    for image in content["images"]:
        image["file_name"] = f"a/{image['id'] + 1000}.jpg"  # the published package gives the name of the file
    for form_of_name in (int, "{}.jpg".format):
        named = [{**entry, "image_id": form_of_name(entry["image_id"] + 1000)} for entry in results]
        assert stats_of(tmp_path, content, named) == expected
    entries = [*content["annotations"], *results]
    for key, listed in (("image_id", content["images"]), ("category_id", content["categories"])):
        for entry in entries:
            entry[key] = form.format(entry[key])
        for entry in listed:
            entry["id"] = form.format(entry["id"])
    assert stats_of(tmp_path, content, results) == expected


def test_ids_may_be_texts_in_the_annotations_or_whole_floats(tmp_path):
    content, results = coco_case(GOLDEN["cases"][0])
    expected = stats_of(tmp_path, content, results)
    floats = [
        {**entry, "image_id": float(entry["image_id"]), "category_id": float(entry["category_id"])} for entry in results
    ]
    assert stats_of(tmp_path, content, floats) == expected
    texts = [{**entry, "image_id": str(entry["image_id"])} for entry in content["annotations"]]
    boxes, messages = read(tmp_path, {**content, "annotations": texts}, results)
    assert evaluate(boxes, PROTOCOLS["coco"]).stats == expected and not any("is not among" in text for text in messages)


def test_categories_of_one_name_have_rows_of_their_own(tmp_path):
    content, results = coco_case(GOLDEN["cases"][0])
    expected = [*evaluate(read(tmp_path, content, results)[0], PROTOCOLS["coco"]).class_rows().values()]
    same = [{**category, "name": "x"} for category in content["categories"][1:]]
    rows = evaluate(
        read(tmp_path, {**content, "categories": [content["categories"][0], *same]}, results)[0], PROTOCOLS["coco"]
    ).class_rows()
    assert [*rows.values()] == expected and [*rows][:2] == ["0", "x (2)"]


def test_difficult_labels_are_those_of_voc(tmp_path):
    content, results = coco_case(GOLDEN["cases"][0])
    found = [
        evaluate(
            read(
                tmp_path, {**content, "annotations": [{**e, key: e["id"] % 2} for e in content["annotations"]]}, results
            )[0],
            PROTOCOLS["voc"],
        ).stats
        for key in ("difficult", "ignore", "other")
    ]
    assert found[0] == found[1] != found[2]


def test_no_predictions_have_no_ap(tmp_path):
    assert stats_of(tmp_path, coco_case(GOLDEN["cases"][0])[0], [])["AP"] == 0


def test_metrics_without_objects_are_a_dash(tmp_path):
    content, results = coco_case(GOLDEN["cases"][0])
    boxes, _ = read(tmp_path, content | {"annotations": []}, results)
    lines = str(evaluate(boxes, PROTOCOLS["coco"])).splitlines()
    assert lines[1].split() == ["AP", "-", "AP50", "-", "AP75", "-"]


def test_what_is_unusual_is_counted_and_named(tmp_path):
    content, results = coco_case(GOLDEN["cases"][0])
    content["annotations"][0] |= {"bbox": [1, 2]}
    del content["annotations"][1]["area"], content["annotations"][2]["iscrowd"]
    content["annotations"][3]["image_id"] = 999
    content["annotations"][4]["bbox"] = [5, 5, -9, 9]
    content["annotations"][5]["bbox"] = [5, 5, 1e6, 9]
    results[0] |= {"bbox": [-50, 0, 40, 40]}
    results[1] |= {"bbox": [5, 5, 0, 9], "score": 1.5}
    _, messages = read(tmp_path, content, results)
    for text in (
        "image_id 999 is not among the images", "1 annotation left out; annotation 1: bbox is [1, 2], expected [x,",
        "2 annotations outside the image or without area: {'bbox': [5, 5, ",
        "1 annotation without `area`",
        "1 annotation without `iscrowd`", "1 detection outside the image", "1 detection without area",
        "1 detection with a score outside 0..1; only the order",
    ):  # fmt: skip
        assert sum(text in message for message in messages) == 1, (text, messages)


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
