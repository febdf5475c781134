"""Recommendations: each for the data it is meant for, and none for data like that of the paper."""

import re
from pathlib import Path

import numpy as np
import pytest

from ultralytics.cfg.options import get_cfg
from ultralytics.data.labels import ImageLabels
from ultralytics.data.recommend import recommend_options, updates_per_epoch


def image(boxes: int = 7, side: float = 0.2, shape: tuple[int, int] = (480, 640), crowd: int = 0) -> ImageLabels:
    """Return an image with equal boxes, the last `crowd` of which are crowd regions."""
    rows = np.tile(np.float32([0.5, 0.5, side, side]), (boxes, 1))
    return ImageLabels(Path("a.jpg"), shape, np.zeros(boxes, np.int64), rows, np.arange(boxes) >= boxes - crowd, 0)


def recommended(labels: list[ImageLabels], queries: int = 300, pretrained: bool = True, **options) -> dict[str, str]:
    """Return the recommendations by the first option of each line."""
    lines = recommend_options(labels, get_cfg(overrides=options), queries=queries, pretrained=pretrained)
    found = {re.split("[=:]", line)[0]: line for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.mark.parametrize("pretrained", [True, False])
def test_nothing_for_data_like_that_of_the_paper(pretrained):
    assert recommended([image(7), image(93), image(0), image(20, side=0.05)] * 5000, pretrained=pretrained) == {}


SCRATCH = {"pretrained": False}


@pytest.mark.parametrize(
    ("labels", "options", "key", "start"),
    [
        ([image(500), image(3)], {}, "queries", "queries=750 max_det=750: an image has 500 boxes; 300 queries"),
        ([image(40, crowd=15)], {"queries": 25}, "queries", None),  # crowd regions do not count
        ([image(0)], {}, "queries", "queries=50: at most 0 boxes per image"),
        ([image(20)] * 900, {}, "queries", "queries=100: "),
        ([image(6)] * 1000, {}, "queries", None),
        ([image()] * 32, SCRATCH, "batch", "batch=4 nbs=4 epochs=375: 32 images at batch=16 nbs=16 give 144 opt"),
        ([image()] * 32, {"batch": 4, "nbs": 4}, "epochs", "epochs=125: "),
        ([image()] * 128, {}, "batch", "batch=4 nbs=4: "),  # 32 x 72 epochs are enough
        ([image()] * 32, SCRATCH, "lr0", "lr0=0.0005 "),
        ([image()] * 32, SCRATCH | {"lr0": 3e-4}, "lr0", None),
        ([image()] * 999, SCRATCH, "pretrained", "pretrained=WEIGHTS.pt"),
        ([image()] * 1000, SCRATCH, "pretrained", None),
        ([image()] * 199, {}, "freeze", "freeze=1 "),
        ([image()] * 200, {}, "freeze", None),
        ([image()] * 199, {"freeze": 1}, "freeze", None),
        ([image()] * 199, SCRATCH, "freeze", None),
        ([image(7, 10 / 1280, (960, 1280))], {}, "imgsz", "imgsz=1024: at 640 px 100% of the boxes are narrower"),
        ([image(7, 4 / 4000, (3000, 4000))], {}, "cut the images into tiles", "cut the images into tiles: at 640 px"),
        ([image(7, 8 / 640)], {}, "imgsz", None),
        ([image(7, 0.3)] * 9 + [image(7, 10 / 1280)], {}, "imgsz", None),  # a tenth of the boxes
        ([image(shape=(16, 12))], {}, "imgsz", "imgsz=64: the images have 16 px; 640 px would only cost time"),
        ([image(shape=(16, 16))], {"imgsz": 64}, "imgsz", None),
        ([image()] * 5000, {"epochs": 10}, "close_mosaic", "close_mosaic=2: 10 switches strong augmentation off"),
        ([image()] * 5000, {"epochs": 11}, "close_mosaic", None),
        ([image()] * 5000, {"epochs": 10, "augmentation": "none"}, "close_mosaic", None),
        ([image()] * 5000, {"epochs": 10, "mosaic": 0.0}, "close_mosaic", None),
        ([image()] * 5000, {"epochs": 10, "mosaic": 0.0, "mixup": 0.1}, "close_mosaic", "close_mosaic=2: "),
        ([image()] * 5000, {"epochs": 10, "mosaic": 0.0, "augmentation": "official"}, "close_mosaic", "close_mosaic=2"),
        ([image()] * 32, {}, "patience", "patience=0: 50 epochs with 100 optimizer steps"),
        ([image()] * 32, {"patience": 0}, "patience", None),
    ],
)  # fmt: skip
def test_recommendation(labels, options, key, start):
    line = recommended(labels, **options).get(key)
    assert line is None if start is None else line.startswith(start)


def test_updates_per_epoch():
    assert updates_per_epoch(32, batch=16, nbs=16) == 2 and updates_per_epoch(33, batch=4, nbs=16) == 3
