import numpy as np
import pytest

from ultralytics.data.labels import read_coco_json, read_yolo_file
from ultralytics.utils.errors import DataError


@pytest.mark.parametrize(
    ("row", "kind", "boxes"),
    [
        ("1 0.5 0.5 0.2 0.4", None, [(0.5, 0.5, 0.2, 0.4)]),
        ("0 0.1 0.2 0.5 0.2 0.3 0.8", None, [(0.3, 0.5, 0.4, 0.6)]),  # polygon
        ("1 0.5 0.5 0.2", "malformed", []),
        ("1 0.5 0.5 0.2 0.4 0.9", "malformed", []),
        ("1 0.5 nan 0.2 0.4", "malformed", []),
        ("cat 0.5 0.5 0.2 0.4", "malformed", []),
        ("1.5 0.5 0.5 0.2 0.4", "malformed", []),
        ("1 0.5 0.5 0 0.4", "malformed", []),
        ("2 0.5 0.5 0.2 0.4", "bad_class", []),
        ("-1 0.5 0.5 0.2 0.4", "bad_class", []),
        ("0 320 240 100 80", "out_of_range", []),
        ("0 0.5 0.5 1.3 0.4", "out_of_range", []),
        ("0 -0.02 0.5 0.04 0.4", "out_of_range", []),  # nothing of it is inside
        ("0 0.1 0.5 0.24 0.4", "clipped", [(0.11, 0.5, 0.22, 0.4)]),
        ("0 0.5 0.5 1.0005 1", None, [(0.5, 0.5, 1, 1)]),  # rounding
    ],
)
def test_yolo_rows(tmp_path, row, kind, boxes):
    file = tmp_path / "a.txt"
    file.write_text(f"\ufeff\n{row}\n", encoding="utf-8")
    rows = read_yolo_file(file, nc=2)
    assert [problem.kind for problem in rows.problems] == [kind] * (kind is not None)
    assert all(problem.where == f"{file}:2" for problem in rows.problems)
    np.testing.assert_allclose(np.reshape(rows.boxes, (-1, 4)), np.reshape(boxes, (-1, 4)), atol=1e-9)


def test_duplicate_rows_and_a_file_that_is_not_text(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("0 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4\n")
    rows = read_yolo_file(file, nc=2)
    assert rows.cls == [0, 1]
    assert [(p.kind, p.where) for p in rows.problems] == [("duplicate", f"{file}:3")]
    file.write_bytes(b"\xff\xfe\xff")  # no text
    assert [p.kind for p in read_yolo_file(file, nc=1).problems] == ["malformed"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "not valid JSON"),
        ("[]", "it has no images, annotations, categories"),
        ('{"images": []}', "it has no annotations, categories"),
    ],
)
def test_not_a_coco_json(tmp_path, text, message):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_coco_json(tmp_path / "a.json")
