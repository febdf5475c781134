"""`yolo data`: the card of small data sets with known faults."""

import csv
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from ultralytics.data.synthetic import draw_image
from ultralytics.utils.plotting import Image

TINY = "0 0.5 0.5 0.02 0.02\n"  # 12.8 px at 640


def write(root: Path, split: str, seeds: range, rows: str, names=("cat", "dog")) -> Path:
    """Write drawn images with equal labels, and the data YAML."""
    for seed in seeds:
        image, text = (root / kind / split / f"{seed}.{end}" for kind, end in (("images", "png"), ("labels", "txt")))
        for file in (image, text):
            file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), draw_image(np.random.default_rng(seed), 96)[0])
        text.write_text(rows)
    file = root / "my.yaml"
    entries = {split: f"images/{split}" for split in ("train", "val", "test") if (root / "images" / split).exists()}
    file.write_text(yaml.safe_dump({**entries, "names": list(names)}))
    return file


@pytest.fixture
def leaky(tmp_path) -> Path:
    """Return a data YAML: 30 training images, 10 of validation of which two are also in train, one of them changed."""
    write(tmp_path, "train", range(30), TINY + "1 0.5 0.5 0.5 0.5\n")
    file = write(tmp_path, "val", range(100, 108), TINY + "0 0.5 0.5 0.5 0.9\n1 0.5 0.5 0.5\n")
    (tmp_path / "images/val/exact.png").write_bytes((tmp_path / "images/train/3.png").read_bytes())
    cv2.imwrite(str(tmp_path / "images/val/near.jpg"), cv2.imread(str(tmp_path / "images/train/5.png")))
    for cls, name in enumerate(("exact", "near")):
        (tmp_path / f"labels/val/{name}.txt").write_text(f"{cls} 0.5 0.5 0.3 0.05\n")
    return file


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Write a file in place of the figure, which takes most of the time."""
    monkeypatch.setattr("ultralytics.tools.data_card.save_figure", lambda figure, file: file.write_bytes(b"png"))


def facts(output: str) -> list[str]:
    return [line.removeprefix("- ") for line in output.splitlines() if line.startswith("- ")]


def test_striking_facts_come_first_and_tables_have_counts_and_shares(leaky, yolo, undrawn):
    output = yolo("data", leaky)
    assert output.splitlines()[0] == "my, imgsz=640, stretch"
    assert facts(output) == [
        "49% of 78 boxes are smaller than 16 px at imgsz=640",
        "2 images of val also in train: 1 exactly, 1 nearly",
        "1 class more or less frequent in val than in train: dog 0.1x",
        "val: 8 malformed rows (skipped)",
    ]
    lines = [line.split() for line in output.splitlines()]
    assert ["train", "30", "0", "60", "2", "2", "2", "300"] in lines
    assert ["val", "10", "0", "18", "2", "2", "2", "300"] in lines
    assert ["8", "-", "16", "30", "50.0", "8", "44.4"] in lines
    assert ["≥", "96", "px", "30", "50.0", "8", "44.4"] in lines
    assert ["dog", "30", "50.0", "1", "5.6", "0.1x"] in lines and ["cat", "30", "50.0", "17", "94.4"] in lines
    assert "runs/data/my: card.html, card.png, card.txt, duplicates.csv written" in output
    with open("runs/data/my/duplicates.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["Image"], r["Split"], r["Also"], r["In"], r["Kind"], r["More"]) for r in rows] == [
        ("images/val/exact.png", "val", "images/train/3.png", "train", "exact", "0"),
        ("images/val/near.jpg", "val", "images/train/5.png", "train", "near", "0"),
    ]  # fmt: skip


def test_the_page_contains_everything(leaky, yolo):
    yolo("data", leaky)
    page, text = (Path("runs/data/my", name).read_text(encoding="utf-8") for name in ("card.html", "card.txt"))
    assert "default-src data:" in page and not re.search(r"https?://", page)
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)', page))
    for part in (*facts(text), "near.jpg", "labels/val/100.txt:3"):
        assert part in page and part in text
    assert page.count("<table>") == 6 and Image.open("runs/data/my/card.png").size == (1800, 1200)


def test_the_size_and_resize_rule_of_the_model_count(leaky, yolo, model_file, undrawn):
    assert "0% of" not in yolo("data", leaky, "imgsz=1280", "leakage=False")  # 25.6 px
    output = yolo("data", leaky, f"model={model_file}", "leakage=False")
    assert "stretch" in output and ["train", "30", "0", "60", "2", "2", "2", "20"] in [
        line.split() for line in output.splitlines()
    ]
    output = yolo("data", leaky, "model=yolov8n.yaml", "splits=val", "leakage=False")
    assert output.startswith("my, imgsz=640, letterbox") and "train" not in output.replace("written", "")


def test_without_leakage_no_image_is_read(leaky, yolo, monkeypatch, undrawn):
    monkeypatch.setattr("ultralytics.data.card.decode_image", None)
    output = yolo("data", leaky, "leakage=False")
    assert output.startswith("my, imgsz=640, stretch, duplicates not searched\n")
    assert "also in" not in output and not Path("runs/data/my/duplicates.csv").exists()


def test_faults_of_a_data_set_are_one_line_each(tmp_path, yolo, undrawn):
    file = write(tmp_path, "train", range(3), "0 0.5 0.5 0.5 0.5\n", ["cat", "dog"])
    assert facts(yolo("data", file)) == [
        "the data YAML has no val: split",
        "1 class without a box in train: dog",
        "1 class with fewer than 20 boxes in train: cat 3",
    ]
    for split in ("val", "test"):
        (tmp_path / "images" / split).mkdir()
    (tmp_path / "images/test/a.jpg").write_bytes(b"no image")
    (tmp_path / "images/train/b.jpg").write_bytes(b"no image")
    found = facts(yolo("data", write(tmp_path, "train", range(0), "")))
    assert found[0].startswith("val: no images in ") and found[1:] == [
        "test: no image can be read, 1 fault",
        "1 class without a box in train: dog",
        "1 class with fewer than 20 boxes in train: cat 3",
        "train: 1 missing or unreadable image (skipped)",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere.yaml",), "found no file"),
        (("shapes8.yaml", "splits=train,valid"), "no `valid:` entry, got ['train', 'val']"),
        (("shapes8.yaml", "model=nowhere.yaml"), "nowhere.yaml"),
        ((), "data= is missing"),
    ],
)
def test_wrong_arguments_are_one_line(words, message, refused, monkeypatch, tmp_path):
    monkeypatch.setenv("ULTRALYTICS_CACHE", str(tmp_path))
    assert message in refused("data", *words)


def test_no_split_that_can_be_used_is_an_error(tmp_path, refused):
    file = write(tmp_path, "train", range(1), "")
    (tmp_path / "images/train/0.png").write_bytes(b"no image")
    assert "no split can be used: the data YAML has no val: split; train: no image can be read" in refused("data", file)
