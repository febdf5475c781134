import json

from tests.data.formats.examples import NAMES, result
from ultralytics.data.formats import write_labels
from ultralytics.data.labels import read_coco_json


def test_coco_json(tmp_path):
    file = (
        write_labels([result(), result([], "/photos/b.jpg")], tmp_path, "coco")
        / "coco"
        / "annotations"
        / "instances_predictions.json"
    )
    data = json.loads(file.read_text(encoding="utf-8"))
    assert data["images"] == [
        {"id": 1, "file_name": "街 1.jpg", "width": 60, "height": 40},
        {"id": 2, "file_name": "b.jpg", "width": 60, "height": 40},
    ]
    assert data["categories"] == [{"id": i + 1, "name": name} for i, name in NAMES.items()]
    assert [a["id"] for a in data["annotations"]] == [1, 2]  # never 0
    assert data["annotations"][1] == {
        "id": 2,
        "image_id": 1,
        "category_id": 3,
        "bbox": [20.4, 20.6, 39.6, 19.4],
        "area": 768.24,
        "segmentation": [],
        "iscrowd": 0,
        "score": 0.5,
    }
    assert "街" in file.read_text(encoding="utf-8")  # readable, not escaped


def test_our_own_data_sets_read_it(tmp_path):
    coco = read_coco_json(
        write_labels([result()], tmp_path, "coco") / "coco" / "annotations" / "instances_predictions.json"
    )
    rows = coco.rows(1, (40, 60))
    assert [int(c) for c in rows.cls] == [1, 2]
    assert not rows.problems
