"""Advice from the data: each rule on the data it is for, and silence on data like the paper's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ultralytics.cfg import get_cfg
from ultralytics.data.labels import ImageLabels
from ultralytics.data.recommend import recommend_options, updates_per_epoch


def image(boxes: int = 7, side: float = 0.2, shape: tuple[int, int] = (480, 640), crowd: int = 0) -> ImageLabels:
    """An image with so many equal boxes, the last `crowd` of them crowd regions."""
    rows = np.tile(np.float32([0.5, 0.5, side, side]), (boxes, 1))
    return ImageLabels(Path("a.jpg"), shape, np.zeros(boxes, np.int64), rows, np.arange(boxes) >= boxes - crowd, 0)


def advice(labels: list[ImageLabels], *, queries: int = 300, pretrained: bool = True, **options) -> dict[str, str]:
    """By the first option a line names."""
    lines = recommend_options(labels, get_cfg(overrides=options), queries=queries, pretrained=pretrained)
    found = {line.split("=")[0]: line for line in lines}
    assert len(found) == len(lines)
    return found


def test_nothing_is_said_about_data_like_the_papers():
    many = [image(7), image(93), image(0), image(20, side=0.05)] * 5000
    assert advice(many) == {}
    assert advice(many, pretrained=False) == {}


def test_more_boxes_than_queries():
    labels = [image(500), image(3)]
    assert advice(labels)["queries"].startswith("queries=750 max_det=750: an image has 500 boxes, and 300 queries")
    assert advice(labels, max_det=600)["queries"].startswith("queries=750: ")
    assert "queries" not in advice([image(40, crowd=15)], queries=25)  # crowd regions are not searched for


@pytest.mark.parametrize(
    ("boxes", "queries", "wanted"), [(1, 300, 50), (6, 300, 50), (20, 300, 100), (6, 60, None), (31, 300, None)]
)
def test_many_more_queries_than_boxes(boxes, queries, wanted):
    line = advice([image(boxes)] * 900, queries=queries).get("queries")
    assert line is None if wanted is None else line.startswith(f"queries={wanted}: the busiest image has {boxes} box")
    assert "queries" not in advice([image(boxes)] * 1000, queries=queries)


def test_too_few_updates():
    labels = [image()] * 32
    assert updates_per_epoch(32, batch=16, nbs=16) == 2 and updates_per_epoch(33, batch=4, nbs=16) == 3
    scratch, tuned = advice(labels, pretrained=False), advice(labels)
    assert scratch["batch"].startswith("batch=4 nbs=4 epochs=375: 32 images at batch=16 nbs=16 give 144 opt")
    assert tuned["batch"].startswith("batch=4 nbs=4 epochs=125: ")
    assert advice(labels, batch=4, nbs=4)["epochs"].startswith("epochs=125: ")
    assert advice([image()] * 128)["batch"].startswith("batch=4 nbs=4: ")  # 32 x 72 epochs are enough
    assert "lr0" in scratch and "lr0" not in tuned and "lr0" not in advice(labels, pretrained=False, lr0=3e-4)


@pytest.mark.parametrize(("images", "wanted"), [(999, True), (1000, False)])
def test_from_scratch(images, wanted):
    assert ("pretrained" in advice([image()] * images, pretrained=False)) == wanted
    assert "pretrained" not in advice([image()] * images)


def test_freezing():
    assert advice([image()] * 199)["freeze"].startswith("freeze=1 ")
    assert "freeze" not in advice([image()] * 200) and "freeze" not in advice([image()] * 199, freeze=1)
    assert "freeze" not in advice([image()] * 199, pretrained=False)


@pytest.mark.parametrize(
    ("side", "shape", "options", "start"),
    [
        (10 / 1280, (960, 1280), {}, "imgsz=1024: at 640 px 100% of the boxes are narrower"),
        (10 / 1280, (480, 640), {}, "imgsz=1024: "),
        (4 / 4000, (3000, 4000), {}, "imgsz=1280 and tiles: "),
        (4 / 4000, (3000, 4000), {"imgsz": 1280}, "cut the images into tiles: "),
        (8 / 640, (480, 640), {}, None),
    ],
)  # fmt: skip
def test_tiny_boxes(side, shape, options, start):
    few = recommend_options([image(7, 0.3, shape)] * 9 + [image(7, side, shape)], get_cfg(overrides=options),
                            queries=300, pretrained=True)  # fmt: skip
    assert not [line for line in few if "finest feature map" in line]  # a tenth of the boxes is nothing unusual
    lines = recommend_options([image(7, side, shape)] * 10, get_cfg(overrides=options), queries=300, pretrained=True)
    tiny = [line for line in lines if "finest feature map" in line]
    assert (not tiny and start is None) or tiny[0].startswith(start)
    assert ("no more detail" in "".join(tiny)) == (shape == (480, 640) and start is not None)


def test_images_smaller_than_the_network_sees():
    assert advice([image(shape=(16, 12))])["imgsz"].startswith("imgsz=64: the images have 16 px; 640 px would only")
    assert advice([image(shape=(200, 150))])["imgsz"].startswith("imgsz=416: ")
    assert "imgsz" not in advice([image(shape=(320, 320))]) and "imgsz" not in advice([image(shape=(16, 16))], imgsz=64)


def test_strong_augmentation_that_never_begins():
    labels = [image()] * 5000
    assert advice(labels, epochs=10)["close_mosaic"].startswith(
        "close_mosaic=2: 10 switches strong augmentation off in all 10"
    )
    assert "close_mosaic" not in advice(labels, epochs=11)
    assert "close_mosaic" not in advice(labels, epochs=10, augmentation="none")


def test_patience_of_few_updates():
    assert advice([image()] * 32)["patience"].startswith("patience=0: 50 epochs are only 100 optimizer steps")
    for options in ({"patience": 0}, {"patience": 72}, {"patience": 300}):
        assert "patience" not in advice([image()] * 32, **options)


def test_images_without_boxes_alone():
    assert "queries" in advice([image(0)])
