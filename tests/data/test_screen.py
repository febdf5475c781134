"""Screen capture, with a stand-in for mss: tests run without a desktop."""

import sys
from types import ModuleType

import numpy as np
import pytest

from ultralytics.data import streams
from ultralytics.data.loaders import load_source
from ultralytics.utils.errors import DataError


class Desktop:
    """Two monitors side by side, 200 x 100 and 100 x 80; blue is the column, green the row."""

    monitors = (
        {"left": 0, "top": 0, "width": 300, "height": 100},
        {"left": 0, "top": 0, "width": 200, "height": 100},
        {"left": 200, "top": 0, "width": 100, "height": 80},
    )
    closed = 0

    def grab(self, area):
        image = np.zeros((area["height"], area["width"], 4), np.uint8)
        image[..., 0] = (area["left"] + np.arange(area["width"])) % 256
        image[..., 1] = (area["top"] + np.arange(area["height"]))[:, None]
        return image

    def close(self):
        type(self).closed += 1


@pytest.fixture
def desktop(monkeypatch):
    package = ModuleType("mss")
    package.ScreenShotError, package.MSS = RuntimeError, type("Fresh", (Desktop,), {})
    monkeypatch.setitem(sys.modules, "mss", package)
    monkeypatch.setattr(streams, "SCREEN_FPS", 1000.0)
    return package.MSS


def first(source):
    batches = iter(load_source(source))
    (frame,) = next(batches)
    batches.close()
    return frame


@pytest.mark.parametrize(
    ("source", "corner", "shape"),
    [
        ("screen", (0, 0), (100, 300)),
        ("screen 2", (200, 0), (80, 100)),
        ("screen 10 20 30 40", (10, 20), (40, 30)),
        ("Screen 2 10 20 30 40", (210, 20), (40, 30)),
    ],
)
def test_screen_regions(desktop, source, corner, shape):
    frame = first(source)
    assert frame.image.shape == (*shape, 3) and frame.image[0, 0].tolist() == [*corner, 0]
    assert frame.kind == "stream" and desktop.closed == 1
    assert frame.label.startswith("stream 1/1 ") and frame.path == source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("screen 3", "monitor 3 cannot be captured"),
        ("screen 1 150 0 100 50", "not within monitor 1 of 200x100"),
        ("screen 0 0 0 0 10", "not within monitor 0"),
        ("screen -1", "all whole numbers"),
        ("screen 1 2", r"expected screen \[monitor\]"),
        ("screen ²", "all whole numbers"),
    ],
)
def test_invalid_screen_regions(desktop, source, message):
    with pytest.raises(DataError, match=message):
        first(source)


def test_screen_without_mss(monkeypatch):
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(DataError, match="pip install mss"):
        first("screen 0 100 100 512 256")


def test_other_words_are_not_a_screen():
    assert not streams.is_screen("screens 1") and not streams.is_screen("screen.png") and not streams.is_screen(0)
