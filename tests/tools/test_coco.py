import csv
import json
import shutil

import cv2
import numpy as np
import pytest

from tests.metrics.test_coco_files import GOLDEN, coco_case
from ultralytics import RTDETR
from ultralytics.data.labels import read_coco_json, read_yolo_file
from ultralytics.data.synthetic import NAMES


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"case{c['case']}")
def test_metrics_of_two_files_are_those_of_pycocotools(yolo, refused, tmp_path, case):
    for name, content in zip(("truth.json", "found.json"), coco_case(case), strict=True):
        (tmp_path / name).write_text(json.dumps(content))
    text = yolo("evaluate", "found.json", "annotations=truth.json", "protocol=coco,voc", "save=figures.json")
    assert "small, medium, large objects" in text
    coco, voc = json.loads((tmp_path / "figures.json").read_text())
    assert (coco["protocol"], voc["protocol"], list(voc["stats"])) == ("coco", "voc", ["AP50", "AR"])
    np.testing.assert_allclose(list(coco["stats"].values()), case["pycocotools_stats"], rtol=0, atol=1e-12)
    assert f"{case['pycocotools_stats'][0]:.4f}" in text or case["pycocotools_stats"][0] == -1
    text = refused("coco", "annotations=truth.json", "predictions=found.json", "save=figures.json")
    assert "already exists; nothing is overwritten" in text


def test_files_of_several_models_are_one_table(yolo, refused, tmp_path):
    content, results = coco_case(GOLDEN["cases"][0])
    for name, data in (("truth", content), ("a", results), ("b", results[:50])):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    (tmp_path / "d.yaml").write_text("names: [a]\nevaluation: {areas: {tiny: [0, 256]}, limit: 5}\n")
    words = ("evaluate", "a.json", "b.json", "annotations=truth.json", "names=first,second")
    text = yolo(*words, "protocol=ultralytics,coco", "data=d.yaml", "save=all.csv", "explain=True")
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert lines[0] == "predictions,protocol,class,metric,value"
    rows = list(csv.DictReader(lines))
    assert {row["predictions"] for row in rows} == {"first", "second"} and {len(row) for row in rows} == {5}
    kinds = {(row["class"], row["metric"]) for row in rows if row["protocol"].startswith("coco")}
    assert {("all", "APtiny"), ("all", "AR1"), ("0", "AP50")} <= kinds
    assert "coco, areas of the data, limit 5" in text and "APtiny" in text and "all together" in text
    refused(*words, "explain=True")
    refused(*words[:4], "names=x,x")
    assert "visdrone" in yolo("evaluate", "a.json", "annotations=truth.json", "protocol=all")


def test_errors_of_a_model_are_those_of_its_predictions(yolo, refused, tmp_path, shapes, weights):
    yolo("val", f"model={weights}", f"data={shapes}", "imgsz=64", "save_json=True", "plots=False")
    yolo("yolo2coco", f"data={shapes}", "split=val", "save=val.json")
    (file,) = tmp_path.rglob("predictions.json")
    words = ("errors", f"predictions={file}", "annotations=val.json")
    content = json.loads((tmp_path / "val.json").read_text())
    content["images"][0]["file_name"] = "elsewhere\\" + content["images"][0]["file_name"]
    (tmp_path / "val.json").write_text(json.dumps(content))
    text = yolo(
        *words, f"images={shapes.parent / 'shapes' / 'images' / 'val'}", "save=errors.json", "conf=0", "name=mine"
    )
    assert "localization" in text and "without this image" not in text
    page = tmp_path / "runs" / "errors" / "mine" / "report.html"
    assert "Errors: predictions.json" in page.read_text() and "data:image/jpeg" in page.read_text()
    found = json.loads((tmp_path / "errors.json").read_text())
    assert set(found["counts"]) < set(found["dAP"]) and found["protocol"] == "tide"
    yolo(*words, "save=errors.csv", "conf=0")
    with open("errors.csv") as file:
        rows = {row["error"]: row for row in csv.DictReader(file)}
    assert float(rows["missed"]["dAP"]) == found["dAP"]["missed"] and float(rows["both"]["AP"]) == found["ap"]
    for command in (words, ("evaluate", *words[1:])):
        text = refused(*command, "save=errors.xlsx")
        assert "save='errors.xlsx': expected a file name that ends with .json or .csv" in text
    assert "images='nowhere': no such folder" in refused(*words, "images=nowhere")
    (tmp_path / "other").mkdir()
    text = refused(*words, "images=other")
    assert f"images='other': has none of {len(content['images'])} images of val.json, such as" in text
    assert "background=0.5: expected at most iou=0.1" in refused(*words, "iou=0.1", "background=0.5")
    assert "val.json is no folder that can be written" in refused(*words, "save=val.json/errors.json")
    assert "give either predictions=a.json annotations=val.json" in refused("errors", f"model={weights}")


def test_errors_of_a_model_have_its_images(yolo, refused, tmp_path, shapes, weights):
    given = ("split=val", "imgsz=64", "device=cpu", "trust=True")
    yolo("errors", f"model={weights}", f"data={shapes}", "conf=0", *given)
    refused("errors", "predictions=a.json", "annotations=a.json", "imgsz=64")  # not ignored
    folder = tmp_path / "runs" / "errors" / "best"
    assert "data:image/jpeg" in (folder / "report.html").read_text()
    assert {file.name for file in folder.iterdir()} == {
        "report.html", "errors.png", "images.csv", "confusion_by_size.csv", "confusion_by_size.png",
    }  # fmt: skip
    (tmp_path / "empty").mkdir()
    cv2.imwrite(str(tmp_path / "empty" / "a.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "empty.yaml").write_text(f"path: .\ntrain: empty\nval: empty\nnames: {list(NAMES)}\n")
    text = refused("errors", f"model={weights}", "data=empty.yaml")
    assert "empty.yaml: no image of the split has a labeled object" in text


def test_a_validation_has_the_same_metrics_from_its_files(yolo, tmp_path, shapes, weights):
    """The ids of yolo2coco are those of predictions.json."""
    options = {"imgsz": 64, "workers": 0, "device": "cpu", "plots": False, "save_json": True, "coco_eval": True}
    metrics = RTDETR(weights).val(data=str(shapes), project=str(tmp_path), **options)
    yolo("yolo2coco", f"data={shapes}", "split=val", "save=val.json")
    yolo("evaluate", "annotations=val.json", "predictions=val/predictions.json", "save=figures.json")
    assert json.loads((tmp_path / "figures.json").read_text())[0]["stats"] == metrics.evaluation.stats


def test_boxes_and_ids_of_the_json(yolo, tmp_path, shapes, images):
    yolo("yolo2coco", f"data={shapes}", "split=val", "save=out/val.json")
    coco = read_coco_json(tmp_path / "out/val.json")
    assert coco.categories == dict(enumerate(NAMES, 1))
    assert [(image["id"], image["file_name"]) for image in coco.images] == [(i, f"{i:05}.jpg") for i in range(3)]
    for image in coco.images:
        rows = coco.rows(image["id"], (image["height"], image["width"]))
        labels = images.parents[1] / "labels" / "val" / f"{image['id']:05}.txt"
        expected = read_yolo_file(labels, len(NAMES))
        assert rows.cls == expected.cls and not rows.problems
        np.testing.assert_allclose(rows.boxes, expected.boxes, atol=1e-6)


def test_a_folder_gives_the_same_as_the_data_yaml(yolo, tmp_path, shapes, images):
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n\n")
    shutil.copytree(images, tmp_path / "pictures")
    shutil.copytree(images.parents[1] / "labels" / "val", tmp_path / "texts")
    yolo("yolo2coco", f"data={shapes}")  # val.json
    yolo("yolo2coco", "images=pictures", "labels=texts", "classes=classes.txt")  # pictures.json
    yolo("yolo2coco", f"images={images}", f"classes={','.join(NAMES)}", "save=third.json")
    first, second, third = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("val", "pictures", "third"))
    assert first == second == third


def test_problems_are_reported_and_other_files_converted(yolo, tmp_path, images):
    shutil.copytree(images, tmp_path / "images")
    shutil.copytree(images.parents[1] / "labels" / "val", tmp_path / "labels")
    (tmp_path / "labels/00000.txt").unlink()
    (tmp_path / "labels/00001.txt").write_text("99 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "images/00002.jpg").write_bytes(b"no image")
    text = yolo("yolo2coco", "images=images", f"classes={','.join(NAMES)}", "save=a.json")
    assert "a.json: 2 images, 1 box, 6 classes" in text
    assert "class 99, expected 0..5" in text and "00000.txt: no such file" in text and "00002.jpg" in text


def test_images_of_one_name_have_their_paths_as_ids(yolo, tmp_path, images):
    for folder in ("x", "y"):
        shutil.copytree(images, tmp_path / "twice/images" / folder)
        shutil.copytree(images.parents[1] / "labels" / "val", tmp_path / "twice/labels" / folder)
    yolo("yolo2coco", "images=twice/images", f"classes={','.join(NAMES)}", "save=a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    names = [f"{folder}/{i:05}.jpg" for folder in "xy" for i in range(3)]
    assert [image["id"] for image in content["images"]] == [image["file_name"] for image in content["images"]] == names
    assert {box["image_id"] for box in content["annotations"]} == set(names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give either data=my.yaml, or images=FOLDER classes=classes.txt"),
        (("data=a.yaml", "classes=b,c"), "give either data=my.yaml, or images=FOLDER"),
        (("images=b",), "classes= is missing"),
        (("images=b", "classes=c.txt"), "c.txt: no such file"),
        (("images=b", "classes=cat,,dog"), "expected names that differ and are not empty"),
        (("images=b", "classes=cat"), "b: no such file"),
        (("data=a.yaml", "save=there.json"), "there.json': already exists; nothing is overwritten"),
    ],
)
def test_errors_of_yolo2coco(refused, tmp_path, images, words, message):
    (tmp_path / "there.json").write_text("{}")
    assert message in refused("yolo2coco", *words)


def test_labels_from_coco_are_those_of_yolo2coco(yolo, refused, tmp_path, shapes, images):
    yolo("yolo2coco", f"data={shapes}", "split=val", "save=val.json")
    text = yolo("coco2yolo", "annotations=val.json", f"images={images}", f"classes={','.join(NAMES)}")
    assert "val.json: 3 label files with" in text and "data.yaml: val with 6 classes" in text
    for file in (images.parents[1] / "labels" / "val").iterdir():
        assert (tmp_path / "coco_converted/labels/val" / file.name).read_text() == file.read_text()
    text = refused("coco2yolo", "annotations=val.json", "classes=cow")
    assert "val.json: class 'cow' is not among its categories" in text
    assert "error: none: no .json files" in refused("coco2yolo", "annotations=none")
    assert "images='nowhere': no such folder" in refused("coco2yolo", "annotations=val.json", "images=nowhere")


ENTRY = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}
TRUTH = {
    "images": [{"id": 1, "width": 9, "height": 9}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "cat"}],
}


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        (TRUTH, [ENTRY, ENTRY | {"image_id": "a"}], "detection 1: image_id 'a' is not in truth.json"),
        (TRUTH, [ENTRY | {"category_id": 0}], "category_id 0 is not in truth.json"),
        (TRUTH, TRUTH, "expected a list of detections, as written by `yolo val save_json=True`"),
        (TRUTH, [{"image_id": 1}], "detection 0, {'image_id': 1}; expected image_id"),
        (TRUTH, [ENTRY | {"bbox": [1, 2]}], "bbox [1, 2] of detection 0, {"),
        (TRUTH, [ENTRY | {"category_id": 1.5}], "category_id 1.5 of detection 0, {"),
        (TRUTH, [ENTRY, ENTRY | {"image_id": True}], "image_id True of detection 1, {"),
        (TRUTH, [ENTRY | {"score": "0.5"}], "score '0.5' of detection 0, {"),
        (TRUTH, [ENTRY | {"score": float("nan")}], "score, all finite"),
        ({"images": []}, [ENTRY], "not a COCO detection file: it has no annotations, categories"),
    ],
)
def test_errors_of_evaluate(refused, tmp_path, truth, found, message):
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    assert message in refused("evaluate", "annotations=truth.json", "predictions=found.json")
