import json
import xml.etree.ElementTree as ElementTree

import pytest

from tests.data.formats.examples import NAMES, result
from ultralytics.data.formats import write_labels


def test_label_studio_tasks(tmp_path):
    folder = write_labels([result(), result([], "/photos/b.jpg")], tmp_path, "label_studio") / "label_studio"
    first, second = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    assert first["data"] == {"image": "/data/local-files/?d=%E8%A1%97%201.jpg"}
    (prediction,) = first["predictions"]
    assert prediction["score"] == pytest.approx(0.7)
    box = prediction["result"][1]
    assert (box["original_width"], box["original_height"], box["score"]) == (60, 40, 0.5)
    assert box["value"].pop("rectanglelabels") == ["猫 cat"]
    expected = {"x": 34.0, "y": 51.5, "width": 66.0, "height": 48.5, "rotation": 0}  # 20.4 of 60, 20.6 of 40, ...
    assert box["value"] == pytest.approx(expected)
    assert second["predictions"][0]["result"] == []


def test_the_configuration_has_the_tags_and_classes_that_tasks_name(tmp_path):
    folder = write_labels([result()], tmp_path, "label_studio") / "label_studio"
    box = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))[0]["predictions"][0]["result"][0]
    view = ElementTree.parse(folder / "label_config.xml").getroot()
    labels = view.find("RectangleLabels")
    assert labels.get("name") == box["from_name"]
    assert view.find("Image").get("name") == labels.get("toName") == box["to_name"]
    assert view.find("Image").get("value") == "$image"
    assert [label.get("value") for label in labels] == list(NAMES.values())
