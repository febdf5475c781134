import shutil
from pathlib import Path

import pytest
import yaml

from ultralytics.data.dataset_yaml import DATASET_YAMLS, find_data_yaml, label_file, list_images, load_dataset_config
from ultralytics.utils.errors import DataError

GOOD = {"train": "images", "val": "images", "names": ["cat", "dog"]}


def test_splits_and_names(small_set):
    config = load_dataset_config(small_set / "data.yaml")
    assert config.root == small_set and config.nc == 2 and config.names == {0: "cat", 1: "dog"}
    assert config.splits == {"train": (small_set / "images",), "val": (small_set / "images",)}


def test_habits_of_published_files(small_set):
    file = small_set / "data.yaml"
    for changes in (
        {"names": {"0": "cat", "1": "dog"}},
        {"channels": 3, "nc": 2},
        {"val": None, "validation": "images"},
    ):
        content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
        file.write_text(yaml.safe_dump(content))
        config = load_dataset_config(file)
        assert config.names == {0: "cat", 1: "dog"} and config.splits["val"] == (small_set / "images",)
    assert load_dataset_config({"path": small_set, "train": "images", "val": "images", "nc": 2}).names == {
        0: "class_0", 1: "class_1",
    }  # fmt: skip


def test_several_roots_lists_and_order(small_set):
    (small_set / "list.txt").write_text("./images/002.jpg\n\nimages\\001.jpg\n")
    config = load_dataset_config({**GOOD, "path": small_set, "train": ["list.txt", "images"]})
    names = [file.name for file in list_images(config.splits["train"], config.root)]
    assert names == ["002.jpg", "001.jpg", "000.jpg", "003.jpg", "004.jpg", "005.jpg"]
    file = small_set / "data.yaml"  # as Roboflow writes it
    file.write_text(yaml.safe_dump({**GOOD, "train": "../images", "roboflow": {"version": 1}}))
    assert load_dataset_config(file, ["train"]).splits["train"] == (small_set / "images",)


def test_hidden_images_are_left_out_and_counted(small_set, caplog):
    for name in ("._000.jpg", ".ipynb_checkpoints/000-checkpoint.jpg", "in/.thumbnails/000.jpg", ".DS_Store",
                 "@eaDir/000.jpg/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/1.jpg", "raw.NEF", "film.gif"):  # fmt: skip
        (small_set / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(small_set / "images" / "000.jpg", small_set / "images" / name)
    (small_set / "images" / "in" / "loop").symlink_to("..")
    assert len(list_images([small_set / "images"], small_set)) == 6
    assert "hidden images and folders left out: 5, such as" in caplog.text
    assert "images of other formats left out: 2, such as" in caplog.text


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/d/images/train/a.jpg", "/d/labels/train/a.txt"),
        ("/images/d/images/a.b.jpg", "/images/d/labels/a.b.txt"),
        ("/d/train/a.jpg", "/d/train/a.txt"),
        ("/d/images.jpg", "/d/images.txt"),
        ("/", "/.txt"),
    ],
)
def test_label_file(image, label):
    assert label_file(Path(image)) == Path(label)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trian": "images"}, r"data\.yaml:[3-9]: unknown key 'trian'; did you mean 'train'"),
        ({"valid": "images"}, "unknown key 'valid'; did you mean 'val'"),
        ({"annotations": {"tarin": "a.json"}}, "did you mean 'train'"),
        ({"annotations": "a.json"}, "annotations: expected"),
        ({"names": None}, "names is None"),
        ({"names": {1: "cat", 2: "dog"}}, "expected 0..1 without gaps"),
        ({"names": ["cat", False]}, r"names\[1\] is False; put the name in quotes"),
        ({"nc": 3}, "nc is 3, but names has 2"),
        ({"nc": 10**9, "names": None}, "nc is 1000000000, expected the number of classes"),
        ({"nc": "2"}, "nc is '2', expected the number of classes"),
        ({"names": {"0": "cat", "00": "dog"}}, "expected 0..1 without gaps"),
        ({"channels": 4}, "channels is 4, expected 3"),
        ({"validation": "images"}, "unknown key 'validation'"),
        ({"val": None}, "no `val:` entry"),
        ({"train": "picture"}, "train: 'picture' was not found: looked for .*picture.*data.yaml, images, labels"),
        ({"path": "/absent"}, "does not exist"),
        ({"path": 3}, "path: expected a path, got 3"),
        ({"train": ["images", {"a": 1}]}, "train: expected a path or a list of paths, got {'a': 1}"),
        ({"train": ["images", None]}, "train: expected a path or a list of paths, got None"),
        ({"train": "x" * 300, "path": "y" * 300}, "was not found"),
        ({"annotations": {"trian": "a.json"}}, r"data\.yaml:2: annotations: unknown key 'trian'"),
        ({"annotations": {"train": 5}}, "train: expected a path, got 5"),
        ({"val": "pictures", "generate": "squares"}, "generate: expected shapes or shapes8, got 'squares'"),
        ({"val": "pictures", "download": "import os"}, "Programs in a YAML are not run"),
    ],
)
def test_mistakes(small_set, changes, message):
    file = small_set / "data.yaml"
    file.write_text(yaml.safe_dump({**GOOD, **changes}))
    with pytest.raises(DataError, match=message):
        load_dataset_config(file)


def test_files_that_cannot_be_used(small_set):
    with pytest.raises(DataError, match=r"no file .*did you mean 'shapes'"):
        find_data_yaml("shape.yaml")
    with pytest.raises(DataError, match=r"no images in .*labels; looked for files ending in .jpg"):
        list_images([small_set / "labels"], small_set)
    with pytest.raises(DataError, match=r"000\.jpg: not UTF-8 text"):
        list_images([small_set / "images" / "000.jpg"], small_set)


def test_built_in_files_are_data():
    assert {file.name for file in DATASET_YAMLS.glob("*.yaml")} == {
        "shapes.yaml", "shapes8.yaml", "coco.yaml", "coco128.yaml", "coco8.yaml", "VOC.yaml", "VisDrone.yaml",
    }  # fmt: skip
    for file in DATASET_YAMLS.glob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        sources = [entry["url"] for entry in content.get("download", {}).get("files", [])]
        assert bool(sources) != bool(content.get("generate"))
        assert all(url.startswith("http") for url in sources)
        assert find_data_yaml(file.name) == file == find_data_yaml(file.stem)
        assert len(set(content["names"])) == {"shapes": 6, "shapes8": 6, "VOC": 20, "VisDrone": 10}.get(file.stem, 80)
