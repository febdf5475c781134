from pathlib import Path

import cv2
import numpy as np
import pytest

from ultralytics.cfg.options import get_cfg
from ultralytics.data.build import build_dataset
from ultralytics.data.dataset import DetectionDataset
from ultralytics.data.dataset_yaml import load_dataset_config


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch) -> Path:
    """Keep tests out of the user's cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ULTRALYTICS_CACHE", str(folder))
    return folder


@pytest.fixture
def small_set(tmp_path) -> Path:
    """Root of six 60 x 40 images with one to three boxes of two classes, shared by train and val."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for i in range(6):
        cv2.imwrite(str(tmp_path / "images" / f"{i:03}.jpg"), rng.integers(0, 255, (40, 60, 3), np.uint8))
        rows = [f"{k % 2} {0.3 + 0.1 * k} 0.5 0.{2 + k} 0.4\n" for k in range(1 + i % 3)]
        (tmp_path / "labels" / f"{i:03}.txt").write_text("".join(rows))
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
    return tmp_path


@pytest.fixture
def build(small_set):
    """Build a data set of the small set with options."""

    def build(training=False, resize="stretch", rect=False, stride=32, **changes) -> DetectionDataset:
        given = {"imgsz": 64, "degrees": 5.0, "mosaic": 0.5, "mixup": 0.3, "flipud": 0.1, **changes}
        config = load_dataset_config(small_set / "data.yaml")
        shape = {"resize": resize, "rect": rect, "stride": stride}
        return build_dataset(get_cfg(overrides=given), config, "train", training=training, **shape)

    return build
