import json
import re

import numpy as np
import pytest

from ultralytics.data.labels import find_image, read_coco_json, read_yolo_file
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
        ("0 0.5_1 0.5 0.2 0.4", "malformed", []),
        ("٠ 0.5 0.5 0.2 0.4", "malformed", []),
        ("0 1e999 0.5 0.2 0.4", "malformed", []),
        ("1.5 0.5 0.5 0.2 0.4", "malformed", []),
        ("1 0.5 0.5 0 0.4", "malformed", []),
        ("2 0.5 0.5 0.2 0.4", "bad_class", []),
        ("-1 0.5 0.5 0.2 0.4", "bad_class", []),
        ("0 320 240 100 80", "out_of_range", []),
        ("0 0.5 0.5 1.3 0.4", "clipped", [(0.5, 0.5, 1, 0.4)]),
        ("0 0.9 1.4 0.4 2", "clipped", [(0.85, 0.7, 0.3, 0.6)]),  # a person of whom half is outside
        ("0 -0.2 -0.2 1.5 0.5 0.5 0.6", "clipped", [(0.5, 0.3, 1, 0.6)]),  # polygon
        ("0 1.1 0.5 0.2 0.4", "out_of_range", []),
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


def test_bounds_of_a_label_file(tmp_path):
    (tmp_path / "a.txt").write_text("0 0 0 1 1\n" * 200_000)
    (problem,) = read_yolo_file(tmp_path / "a.txt", nc=2).problems
    assert problem.kind == "malformed" and "200,000 rows, expected at most 100,000" in problem.detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "not valid JSON"),
        ("[]", "it has no images, annotations, categories"),
        ('{"images": []}', "it has no annotations, categories"),
        ('{"images": {}, "annotations": null, "categories": 3}', "it has no images, annotations, categories"),
        ("\ufeff[1", "not valid JSON"),
    ],
)
def test_not_a_coco_json(tmp_path, text, message):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_coco_json(tmp_path / "a.json")


def coco_content(**changes) -> dict:
    """Return a COCO file of two images with one box each, and entries of `changes`: images_0={"id": None}."""
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 40} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i, "bbox": [6, 4, 12, 8], "iscrowd": 0} for i in (1, 2)
        ],
    }
    for place, change in changes.items():
        section, number = place.split("_")
        entry = content[section][int(number)]
        content[section][int(number)] = entry | change if isinstance(change, dict) else change
    return content


def read(folder, content):
    (folder / "a.json").write_text(json.dumps(content), encoding="utf-8-sig")
    return read_coco_json(folder / "a.json")


@pytest.mark.parametrize("key", ["id", "image_id", "file_name", "name", "category_id", "bbox", "iscrowd", "all"])
@pytest.mark.parametrize(
    "value", [None, "", "1", "no", -1, 0, 1.5, 10**400, float("nan"), True, [], [[1]], {"a": 1}, "a\0b", "x" * 400],
    ids=lambda value: str(value)[:8],
)  # fmt: skip
def test_damaged_entries_are_reported_or_refused(tmp_path, key, value):
    for section in ("images", "annotations", "categories"):
        change = value if key == "all" else {key: value}
        try:
            coco = read(tmp_path, coco_content(**{f"{section}_1": change}))
        except DataError as error:
            assert "a.json: " in str(error) and len(str(error)) < 500
            continue
        found = [coco.rows(i, (40, 60)) for i in (1, 2)]
        assert list(coco.categories.values())[found[0].cls[0]] == "cat"
        assert sum(len(rows.cls) + len(rows.problems) for rows in found) + len(coco.problems) >= 2
        find_image(coco.images[-1]["file_name"], [tmp_path])
        assert all(len(problem.where + problem.detail) < 300 for problem in (*coco.problems, *found[1].problems))
        assert len(coco.truth()["annotations"]) == sum(len(rows.cls) for rows in found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images_1": {"id": 1}}, "images[1], '2.jpg', has the id 1 of '1.jpg'"),
        ({"categories_1": {"id": "2"}}, "category ids are numbers and texts: [1, '2']"),
        ({"categories_1": {"id": 1}}, "two categories have the id 1"),
        ({"categories_1": {"name": None}}, "categories[1] is {'id': 2, 'name': None}; expected an id and a name"),
    ],
)
def test_unclear_coco_files(tmp_path, changes, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, coco_content(**changes))


def test_entries_that_are_left_out(tmp_path):
    content = coco_content(images_1={"file_name": None}, annotations_0={"image_id": "7", "category_id": "1"})
    assert [(p.where, p.detail) for p in read(tmp_path, content).problems] == [
        ("a.json, images[1]", "is {'file_name': None, 'height': 40, 'id': 2, 'width': 60}; expected an id (a number or "
         "text) and a file_name"),
        ("a.json, annotations[0]", "image_id '7' is not among the images [1]"),
        ("a.json, annotations[1]", "image_id 2 is not among the images [1]"),
    ]  # fmt: skip
    (problem,) = read(tmp_path, coco_content(annotations_0={"category_id": "1"})).rows(1, (40, 60)).problems
    assert problem.detail == "category_id '1' is not among the categories [1, 2]"
    coco = read(tmp_path, coco_content(images_0={"id": 1.0}, annotations_0={"image_id": 1.0, "category_id": 1.0}))
    assert coco.rows(1, (40, 60)).cls == [0] and not coco.problems  # written by pandas


@pytest.mark.parametrize(
    ("value", "crowd"),
    [(0, [False]), ("0", [False]), ("no", [False]), (False, [False]), (None, [False]), (1.0, [True]), ("1", [True]),
     (True, [True]), ("Yes", [True]), ("maybe", []), (2, []), ([0], [])],
)  # fmt: skip
def test_crowd(tmp_path, value, crowd):
    rows = read(tmp_path, coco_content(annotations_0={"iscrowd": value})).rows(1, (40, 60))
    assert rows.crowd == crowd and [p.kind for p in rows.problems] == ["malformed"] * (not crowd)


def test_the_empty_root_of_roboflow(tmp_path):
    content = coco_content()
    content["categories"] = [{**c, "supercategory": "pets"} for c in content["categories"]]
    content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
    coco = read(tmp_path, content)
    assert coco.categories == {1: "cat", 2: "dog"} and coco.rows(1, (40, 60)).cls == [0]
    assert "'pets' without boxes is the supercategory of all others; left out" in coco.problems[0].detail
    content["annotations"][0]["category_id"] = 0
    assert list(read(tmp_path, content).categories) == [0, 1, 2]


def test_file_names_of_other_machines(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg"):
        (tmp_path / name).touch()
    for name in ("a.jpg", "./a.jpg", ".\\a.jpg", "C:\\data\\a.jpg", "/elsewhere/a.jpg", "sub\\..\\a.jpg"):
        assert find_image(name, [tmp_path / "none", tmp_path]).samefile(tmp_path / "a.jpg")
    assert find_image("sub\\b.jpg", [tmp_path]).samefile(tmp_path / "sub/b.jpg")
    assert not find_image("x" * 400, [tmp_path]).parent.samefile(tmp_path / "sub")
