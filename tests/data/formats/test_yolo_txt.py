import pytest

from tests.data.formats.examples import result
from ultralytics.data.formats import write_labels


def test_yolo_txt(tmp_path):
    folder = write_labels([result(), result([], "/photos/b.jpg")], tmp_path, "yolo") / "yolo"
    rows = [line.split() for line in (folder / "labels" / "街 1.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == ["1", "2"]
    assert [float(v) for v in rows[0][1:]] == pytest.approx([5 / 60, 5 / 40, 10 / 60, 10 / 40], abs=1e-6)
    assert [float(v) for v in rows[1][1:]] == pytest.approx([40.2 / 60, 30.3 / 40, 39.6 / 60, 19.4 / 40], abs=1e-6)
    assert (folder / "labels" / "b.txt").read_text() == ""
    assert (folder / "classes.txt").read_text(encoding="utf-8").splitlines() == ['a<b & "c"', "кошка", "猫 cat"]


def test_a_name_of_several_lines_is_one_line(tmp_path):
    write_labels([result([], names={0: "two\nlines", 1: "b"})], tmp_path, "yolo")
    assert (tmp_path / "yolo" / "classes.txt").read_text().splitlines() == ["two lines", "b"]
