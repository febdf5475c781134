import os
import shutil
from pathlib import Path

import pytest

from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.data.synthetic import NAMES
from ultralytics.data.verify import scan_split
from ultralytics.tools.split import split_pairs

PAIRS = [(Path(f"{i:02}.jpg"), None) for i in range(11)]


def test_parts_have_the_ratios_and_keep_all_images():
    parts = split_pairs(PAIRS, (0.7, 0.2, 0.1), seed=0)
    assert [len(part) for part in parts] == [8, 2, 1]  # 7.7, 2.2, 1.1
    assert sorted(pair for part in parts for pair in part) == PAIRS
    assert parts == split_pairs(PAIRS, (0.7, 0.2, 0.1), seed=0) != split_pairs(PAIRS, (0.7, 0.2, 0.1), seed=1)
    assert [len(part) for part in split_pairs(PAIRS[:10], (0.7, 0.2, 0.1), seed=0)] == [7, 2, 1]
    assert [len(part) for part in split_pairs(PAIRS, (1, 0, 0), seed=0)] == [11, 0, 0]


@pytest.fixture
def folder(tmp_path, shapes):
    """all/images and all/labels: six images, one in a folder below, one without labels."""
    root = shapes.parent / "shapes"
    for kind in ("images", "labels"):
        shutil.copytree(root / kind / "train", tmp_path / "all" / kind)
        (tmp_path / "all" / kind / "sub").mkdir()
    (tmp_path / "all/images/00000.jpg").rename(tmp_path / "all/images/sub/00000.jpg")
    (tmp_path / "all/labels/00000.txt").rename(tmp_path / "all/labels/sub/00000.txt")
    (tmp_path / "all/labels/00001.txt").unlink()
    return tmp_path


WORDS = ("images=all/images", "train=0.5", "val=0.3", "test=0.2", f"classes={','.join(NAMES)}")


@pytest.mark.parametrize("mode", ["copy", "list"])
def test_the_parts_are_a_data_set(yolo, folder, mode):
    text = yolo("split", *WORDS, "save=my", f"mode={mode}", "seed=3")
    assert "train 3, val 2, test 1 images, seed 3; data.yaml written" in text
    assert "images without a label file: 1 of 6" in text
    config = load_dataset_config(folder / "my/data.yaml", ("train", "val", "test"))
    assert list(config.names.values()) == list(NAMES)
    found = {split: scan_split(config, split) for split in ("train", "val", "test")}
    assert sorted(i.file.name for scan in found.values() for i in scan.labels) == [f"{i:05}.jpg" for i in range(6)]
    total = sum(len(i.cls) for scan in found.values() for i in scan.labels)
    assert total == sum(len(f.read_text().splitlines()) for f in (folder / "all/labels").rglob("*.txt"))
    for item in (item for scan in found.values() for item in scan.labels):
        original = next((folder / "all/images").rglob(item.file.name))
        assert item.file.read_bytes() == original.read_bytes()
        assert (item.file == original) is (mode == "list")


def test_labels_of_another_folder(yolo, folder):
    (folder / "all/labels").rename(folder / "texts")
    assert "images without a label file: 1 of 6" in yolo("split", *WORDS, "save=my", "labels=texts")
    assert len(list((folder / "my/labels").rglob("*.txt"))) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("images=all/images", "save=my", "train=0.5"), "train=0.5 val=0.1 test=0.1 sum to 0.7, expected 1"),
        (("images=all/images", "save=my", "train=1.5"), "train: expected a number in [0, 1], got 1.5"),
        (("images=none", "save=my"), "none: no such file"),
        (("images=all/labels", "save=my"), "no images in"),
        (("images=all/images", "save=all"), "save='all': already exists and is not empty; nothing is overwritten"),
        (("images=all/images", "save=my", "mode=list", "labels=all/labels"), "drop labels="),
        (("images=all/images", "save=my", "mode=move"), "mode: expected one of 'copy', 'list'"),
        (("images=all/images", "save=my", "labels=nowhere"), "labels='nowhere': no such folder"),
    ],
)
def test_errors(refused, folder, words, message):
    assert message in refused("split", *words) and not (folder / "my").exists()


def test_two_images_with_one_label_file(refused, folder):
    shutil.copy(folder / "all/images/00002.jpg", folder / "all/images/00002.png")
    assert "both have the label file 00002.txt" in refused("split", *WORDS, "save=my")


@pytest.mark.parametrize("name", [b"a\nb.jpg", b"\xff.jpg"])
def test_pipes_are_left_out_and_lists_refuse_names_that_they_cannot_hold(yolo, refused, folder, name):
    os.mkfifo(folder / "all/images/pipe.jpg")
    (folder / "all/images/zero.jpg").symlink_to("/dev/zero")
    (folder / "all/images/00002.jpg").rename(folder / "all/images" / os.fsdecode(name))
    text = yolo("split", *WORDS, "save=my")
    assert "pipe.jpg: left out" in text and "zero.jpg: left out" in text
    assert len([*(folder / "my/images").rglob("*.jpg")]) == 6
    text = refused("split", *WORDS, "save=listed", "mode=list")
    assert "cannot be in a list; rename the file, or use mode=copy" in text
