import json
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from ultralytics.data import converter
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.data.verify import scan_split
from ultralytics.utils.errors import DataError, OptionError

VOC_XML = """<annotation><size><width>100</width><height>50</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult>
  <bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>25</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult>
  <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"""


def test_coco_numbers():
    ids, back = converter.coco80_to_coco91_class(), converter.coco91_to_coco80_class()
    assert len(ids) == 80 and ids[0] == 1 and ids[11] == 13 and ids[79] == 90
    assert len(back) == 91 and [back[i - 1] for i in ids] == list(range(80)) and back[11] is None


def coco_content(**image) -> dict:
    return {
        "images": [{"id": 1, "file_name": "sub/a.jpg", "width": 100, "height": 50} | image],
        "categories": [{"id": 4, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 4, "bbox": [10, 5, 20, 20], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 20, 20], "iscrowd": 1},
        ],
    }


ROW = "1 0.200000 0.300000 0.200000 0.400000\n"


def test_convert_coco(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("ultralytics.utils.LOGGER.handlers", [caplog.handler])
    (tmp_path / "captions_val.json").write_text("{}")
    for split in ("train", "val"):
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(coco_content()))
    folder = converter.convert_coco(tmp_path, tmp_path / "out")
    assert (folder / "labels/val/sub/a.txt").read_text() == ROW and "captions_val.json: not a COCO" in caplog.text
    assert "1 label file with 1 box in" in caplog.text and "Copy or link the images to" in caplog.text
    (tmp_path / "pixels/sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (100, 50)).save(tmp_path / "pixels/sub/a.jpg", exif=exif)
    again = converter.convert_coco(
        tmp_path / "instances_val.json", tmp_path / "out", images=tmp_path / "pixels", classes=["cat"]
    )
    assert again == tmp_path / "out2" and (again / "labels/val/sub/a.txt").read_text() == "0" + ROW[1:]
    (folder / "images").mkdir()
    for part in ("train", "val"):
        (folder / "images" / part).symlink_to(again / "images/val")
    config = load_dataset_config(folder / "data.yaml")
    assert config.names == {0: "dog", 1: "cat"} and len(scan_split(config, "train").labels[0].cls) == 1
    with pytest.raises(DataError, match=r"class 'cet' is not among its categories; did you mean 'cat'"):
        converter.convert_coco(tmp_path / "instances_val.json", tmp_path / "out", classes=["cet"])
    with pytest.raises(DataError, match=r"no \.json files"):
        converter.convert_coco(tmp_path / "pixels", tmp_path / "out2")
    with pytest.raises(OptionError, match="use_keypoints and lvis are not supported, as labels are boxes"):
        converter.convert_coco(tmp_path, use_keypoints=True)
    same = converter.convert_coco(tmp_path / "instances_val.json", tmp_path / "out", use_segments=True, cls91to80=False)
    assert (same / "labels/val/sub/a.txt").read_text() == ROW and "use_segments=True has no effect" in caplog.text


@pytest.mark.parametrize(
    "name", ["/tmp/evil.jpg", "../evil.jpg", "a/../../../evil.jpg", "..\\..\\evil.jpg", "C:\\evil.jpg", "a\0b.jpg",
             "e" * 300 + ".jpg"],
)  # fmt: skip
@pytest.mark.parametrize("given", [True, False])
def test_convert_coco_writes_below_its_folder(tmp_path, name, given):
    (tmp_path / "deep/images").mkdir(parents=True)
    (tmp_path / "a.json").write_text(json.dumps(coco_content(file_name=name)))
    target = converter.convert_coco(
        tmp_path / "a.json", tmp_path / "deep/out", images=tmp_path / "deep/images" if given else None
    )
    assert [file.name for file in tmp_path.rglob("*.txt")] == [] and (target / "data.yaml").is_file()


def test_voc(tmp_path):
    for year, sets in converter.VOC_SETS.items():
        source = tmp_path / "VOCdevkit" / f"VOC{year}"
        for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
            (source / folder).mkdir(parents=True)
        for name in sets:
            (source / "ImageSets" / "Main" / f"{name}.txt").write_text(f"{name}1\n")
            (source / "Annotations" / f"{name}1.xml").write_text(VOC_XML)
            (source / "JPEGImages" / f"{name}1.jpg").write_bytes(b"x")
    for _ in range(2):  # an interrupted conversion can be run again
        converter.convert_voc(tmp_path, ["cat", "dog"])
    assert (tmp_path / "labels/test2007/test1.txt").read_text() == "1 0.200000 0.300000 0.200000 0.400000\n"
    assert (tmp_path / "images/val2012/val1.jpg").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation/>", "not a Pascal VOC annotation"),
        ("", "not a Pascal VOC annotation: no element"),
        ("\0", "binary data"),
        ("<a>" * 100_000, "not a Pascal VOC annotation: no element"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + VOC_XML, "defines entities"),
        ('<?xml version="1.0" encoding="zip"?><a/>', "not a Pascal VOC annotation"),
        (VOC_XML.replace(">100<", ">nan<"), "not a Pascal VOC annotation.*nan"),
        (VOC_XML.replace(">100<", ">0<"), "size is 0 x 50"),
        (VOC_XML.replace(">11<", ">nan<"), "not a Pascal VOC annotation.*nan"),
        (VOC_XML.replace(">11<", ">1_1<"), "not a Pascal VOC annotation.*1_1"),
        (VOC_XML.replace("<xmin>11", "<xmin>eleven"), "not a Pascal VOC annotation.*eleven"),
        (VOC_XML, "class 'dog' is not among cat"),
    ],
)
def test_invalid_voc_file(tmp_path, text, message):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        converter.read_voc_xml(tmp_path / "a.xml", ["cat"])
    (tmp_path / "a.xml").write_text(VOC_XML.replace(">100<", ">100.0<").replace("dog", " dog\n"))
    rows = converter.read_voc_xml(tmp_path / "a.xml", ["dog"])
    assert rows.cls == [0] and rows.boxes == [pytest.approx((0.2, 0.3, 0.2, 0.4))]


def test_fetching_and_converting_visdrone(tmp_path, tmp_path_factory, cache_folder, monkeypatch):
    source = tmp_path / "VisDrone2019-DET-val"
    for folder in ("images", "annotations"):
        (source / folder).mkdir(parents=True)
    cv2.imwrite(str(source / "images" / "a.jpg"), np.zeros((50, 100, 3), np.uint8))
    (source / "annotations" / "a.txt").write_text("10,5,20,20,1,4,0,0\n0,0,9,9,0,0,0,0\n0,0,9,9,1,11,0,0\n")
    packed = tmp_path_factory.mktemp("server") / "val.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in tmp_path.rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path))
    fetched = []

    def from_server(url, file):
        fetched.append(url)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(packed.read_bytes())

    monkeypatch.setattr(converter, "download_file", from_server)
    recipe = {"files": [{"url": "http://x/val.zip"}], "convert": "visdrone"}
    data = {"path": "drones", "train": "images/val", "val": "images/val", "names": ["a", "b", "c", "d"]}
    for _ in range(2):
        config = load_dataset_config({**data, "download": recipe})
        assert config.root == cache_folder / "datasets" / "drones" and fetched == ["http://x/val.zip"]
    converter.convert_visdrone(config.root)  # an interrupted conversion can be run again
    assert (config.root / "labels/val/a.txt").read_text() == "3 0.200000 0.300000 0.200000 0.400000\n"
    found = sorted(str(file.relative_to(config.root)) for file in config.root.rglob("*.*") if file.is_file())
    assert found[:2] == ["VisDrone2019-DET-val/annotations/a.txt", "images/val/a.jpg"]
    assert [folder.name for folder in (cache_folder / "datasets").iterdir()] == ["drones"]
    with pytest.raises(DataError, match="the folder is not empty, so nothing is downloaded into it"):
        load_dataset_config({**data, "val": "images/other", "download": recipe})
    with pytest.raises(DataError, match="give data=data to download them from http"):
        load_dataset_config({**data, "path": "absent", "download": recipe}, download=False)
    for path in (tmp_path / "x", "../x", "../../x", "."):
        with pytest.raises(DataError, match="only write below"):
            load_dataset_config({**data, "path": path, "download": recipe})
    assert fetched == ["http://x/val.zip"]


@pytest.mark.parametrize(
    "recipe",
    [
        *(5, "x", [], {"files": 5}, {"files": [5]}, {"files": [{}]}, {"files": [], "convert": "exec"}),
        *(
            {"files": [{"url": url}]}
            for url in (5, "data:,x", "file:///etc/a.zip", "ftp://x/a.zip", "http://x", "http://[")
        ),
        *({"files": [{"url": "http://x/.."}]}, {"files": [{"url": "http://x/a.zip", "strip": "yes"}]}),
        *(
            {"files": [{"url": "http://x/a.zip", "into": i}]}
            for i in ("/tmp", "../x", "a/../../x", "C:\\x", "a\\..\\b", 5)
        ),
    ],
    ids=str,
)
def test_recipes_that_are_refused(cache_folder, recipe, monkeypatch):
    monkeypatch.setattr(converter, "download_file", None)
    with pytest.raises(DataError, match=r"^data: download (is|has the file) .*; expected"):
        load_dataset_config({"path": "x", "train": "a", "val": "a", "names": ["a"], "download": recipe or [0]})
    assert not list(cache_folder.iterdir())
