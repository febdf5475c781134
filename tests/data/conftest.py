from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch) -> Path:
    """Nothing of a test goes to the user's own cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ULTRALYTICS_CACHE", str(folder))
    return folder


@pytest.fixture
def small_set(tmp_path) -> Path:
    """Root of six 60 x 40 pictures with one to three boxes of two classes; train and val share them."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for i in range(6):
        cv2.imwrite(str(tmp_path / "images" / f"{i:03}.jpg"), rng.integers(0, 255, (40, 60, 3), np.uint8))
        rows = [f"{k % 2} {0.3 + 0.1 * k} 0.5 0.{2 + k} 0.4\n" for k in range(1 + i % 3)]
        (tmp_path / "labels" / f"{i:03}.txt").write_text("".join(rows))
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
    return tmp_path
