import xml.etree.ElementTree as ElementTree

import pytest

from tests.data.formats.examples import NAMES, result
from ultralytics.data.converter import read_voc_xml
from ultralytics.data.formats import write_labels


def test_voc_xml(tmp_path):
    file = write_labels([result()], tmp_path, "voc") / "voc" / "Annotations" / "街 1.xml"
    root = ElementTree.parse(file).getroot()
    assert root.findtext("filename") == "街 1.jpg"
    assert [root.findtext(f"size/{key}") for key in ("width", "height", "depth")] == ["60", "40", "3"]
    assert [item.findtext("name") for item in root.iter("object")] == ["кошка", "猫 cat"]
    assert (tmp_path / "voc" / "ImageSets" / "Main" / "predictions.txt").read_text(encoding="utf-8") == '"街 1"\n'
    classes = [line.partition(":")[0] for line in (tmp_path / "voc" / "labelmap.txt").read_text().splitlines()[1:]]
    assert classes == list(NAMES.values())
    assert read_voc_xml(file, list(NAMES.values())) == ((40, 60), [(1, 0, 0, 10, 10), (2, 20, 21, 60, 40)])


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0, 0, 60, 40), (1, 1, 60, 40)),  # the whole image
        ((9.6, 9.6, 10.4, 10.4), (11, 11, 11, 11)),  # less than a pixel: one
        ((59.8, 39.8, 60, 40), (60, 40, 60, 40)),  # in the last corner
        ((0.4, 0.6, 2.4, 2.6), (1, 2, 2, 3)),
    ],
)
def test_pixels_count_from_one_and_both_ends_belong_to_the_box(tmp_path, box, pixels):
    file = write_labels([result([[*box, 0.5, 0]])], tmp_path, "voc") / "voc" / "Annotations" / "街 1.xml"
    corners = ElementTree.parse(file).getroot().find("object/bndbox")
    assert tuple(int(corners.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax")) == pixels
