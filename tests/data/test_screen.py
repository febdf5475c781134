"""The screen, by a stand-in for mss: there is no desktop where tests run."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from ultralytics.data import streams as screen
from ultralytics.data.loaders import load_source
from ultralytics.data.streams import Region, parse_screen
from ultralytics.utils.errors import DataError, MissingPackageError


class ScreenShotError(Exception):
    pass


class Desktop:
    """Two monitors side by side, 200 x 100 and 100 x 80; blue is the column, green the row."""

    monitors = (
        {"left": 0, "top": 0, "width": 300, "height": 100},
        {"left": 0, "top": 0, "width": 200, "height": 100, "name": "first"},
        {"left": 200, "top": 0, "width": 100, "height": 80},
    )
    grabs = 10**9  # before it fails
    closed = 0

    def grab(self, area):
        assert set(area) == {"left", "top", "width", "height"}
        type(self).grabs -= 1
        if self.grabs < 0:
            raise ScreenShotError("the desktop is gone")
        image = np.zeros((area["height"], area["width"], 4), np.uint8)
        image[..., 0] = (area["left"] + np.arange(area["width"])) % 256
        image[..., 1] = (area["top"] + np.arange(area["height"]))[:, None]
        return image

    def close(self):
        type(self).closed += 1


@pytest.fixture
def desktop(monkeypatch):
    class Fresh(Desktop):
        pass

    package = ModuleType("mss")
    package.exception = SimpleNamespace(ScreenShotError=ScreenShotError)
    package.MSS = Fresh
    monkeypatch.setitem(sys.modules, "mss", package)
    monkeypatch.setitem(sys.modules, "mss.exception", package.exception)
    monkeypatch.setattr(screen, "FRAMES_PER_SECOND", 1000.0)
    return Fresh


def first(source):
    batches = iter(load_source(source))
    (frame,) = next(batches)
    batches.close()
    return frame


@pytest.mark.parametrize(
    ("source", "corner", "shape"),
    [
        ("screen", (0, 0), (100, 300)),
        ("screen 1", (0, 0), (100, 200)),
        ("screen 2", (200, 0), (80, 100)),
        ("screen 10 20 30 40", (10, 20), (40, 30)),
        ("screen 2 10 20 30 40", (210, 20), (40, 30)),
        ("Screen 0 100 50 200 50", (100, 50), (50, 200)),
    ],
)
def test_regions(desktop, source, corner, shape):
    frame = first(source)
    assert frame.image.shape == (*shape, 3) and frame.image[0, 0].tolist() == [*corner, 0]
    assert frame.kind == "stream" and desktop.closed == 1
    assert "screen" in frame.path and frame.label.startswith("stream 1/1 screen")


def test_two_regions_at_once(desktop):
    batches, found = iter(load_source(["screen 1", "screen 2"], stream_buffer=True)), []
    while len(found) < 20:
        found += next(batches)
    batches.close()
    for path in ("screen 1", "screen 2"):
        own = [frame.index for frame in found if frame.path == path]
        assert own == list(range(1, len(own) + 1)) and own
    assert desktop.closed == 2


def test_frames_do_not_come_faster_than_their_rate(desktop, monkeypatch):
    monkeypatch.setattr(screen, "FRAMES_PER_SECOND", 50.0)
    slept = []
    monkeypatch.setattr(screen.time, "sleep", slept.append)
    capture = screen.ScreenCapture(Region())
    capture.grab()
    capture.grab()
    assert slept[0] == 0 and 0 < slept[1] <= 0.02


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("screen 3", "there are monitors 1 to 2, and 0 for all of them"),
        ("screen 1 150 0 100 50", "the region leaves monitor 1, which is 200x100"),
        ("screen -1", "the number is 0 or more"),
        ("screen 0 0 0 0 10", "width and height are at least 1"),
        ("screen 1 2", "expected: screen .number of the monitor"),
        ("screen left", "all whole numbers"),
        ("screen --1", "all whole numbers"),
        ("screen ²", "all whole numbers"),
    ],
)
def test_wrong_regions(desktop, source, message):
    with pytest.raises(DataError, match=message):
        first(source)


def test_a_desktop_that_goes_away_ends_the_run(desktop, caplog):
    desktop.grabs = 5
    frames = [frame for batch in load_source("screen", stream_buffer=True) for frame in batch]
    assert len(frames) == 5 and "cannot be read any more (the desktop is gone)" in caplog.text


def test_no_desktop(desktop, monkeypatch):
    def absent():
        raise ScreenShotError("no display")

    monkeypatch.setattr(sys.modules["mss"], "MSS", absent)
    with pytest.raises(DataError, match=r"the screen cannot be read \(no display\); it needs a desktop"):
        first("screen")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(MissingPackageError, match="pip install mss"):
        load_source("screen 0 100 100 512 256")


def test_other_words_are_no_screen():
    assert parse_screen("screens 1") is None and parse_screen("screen.png") is None


def test_the_package_itself_where_there_is_a_desktop():
    mss = pytest.importorskip("mss")
    try:
        with mss.MSS() as grabber:
            width = grabber.monitors[0]["width"]
    except (mss.ScreenShotError, AttributeError) as error:
        pytest.skip(f"no desktop: {error}")
    assert first("screen").image.shape[1] in (width, 2 * width)  # twice on displays of high density
