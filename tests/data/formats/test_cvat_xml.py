import xml.etree.ElementTree as ElementTree

from tests.data.formats.examples import NAMES, result
from ultralytics.data.formats import write_labels


def test_cvat_xml(tmp_path):
    file = write_labels([result(), result([], "/photos/b.jpg")], tmp_path, "cvat") / "cvat" / "annotations.xml"
    root = ElementTree.parse(file).getroot()
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/size") == "2"
    assert [label.findtext("name") for label in root.iter("label")] == list(NAMES.values())
    first, second = root.findall("image")
    assert first.attrib == {"id": "0", "name": "街 1.jpg", "width": "60", "height": "40"}
    assert first[1].get("label") == "猫 cat"
    assert [float(first[1].get(key)) for key in ("xtl", "ytl", "xbr", "ybr")] == [20.4, 20.6, 60.0, 40.0]
    assert len(second) == 0
