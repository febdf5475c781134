"""The screen as a source: `screen`, `screen 1`, `screen 100 100 512 256`, `screen 0 100 100 512 256`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import ModuleType

import cv2
import numpy as np

from ultralytics.utils.errors import DataError, MissingPackageError

SCREEN = "screen"
FRAMES_PER_SECOND = 30.0  # at most: a screen gives as many as one asks for


@dataclass(frozen=True)
class Region:
    """Part of a monitor: `monitor` 0 is all of them together, 1 the first; no `box` (left, top, w, h): all of it."""

    monitor: int = 0
    box: tuple[int, int, int, int] | None = None

    def __str__(self) -> str:
        """The source it was given as."""
        return " ".join(map(str, (SCREEN, self.monitor, *(self.box or ()))))


def parse_screen(text: str) -> Region | None:
    """The region that a source names, None where it is no screen. Needs the package mss."""
    word, *rest = text.split()
    if word.lower() != SCREEN:
        return None
    usage = "expected: screen [number of the monitor, 0 for all] [left top width height]"
    if not all(part.removeprefix("-").isdecimal() for part in rest) or len(rest) not in (0, 1, 4, 5):
        raise DataError(f"source {text!r}: {usage}, all whole numbers")
    numbers = [int(part) for part in rest]
    monitor, box = (numbers[0], numbers[1:]) if len(numbers) in (1, 5) else (0, numbers)
    if monitor < 0 or (box and min(box[2:]) < 1):
        raise DataError(f"source {text!r}: the number is 0 or more, width and height are at least 1; {usage}")
    _mss()
    return Region(monitor, tuple(box) or None)


class ScreenCapture:
    """A region of the screen behind the methods of `cv2.VideoCapture` that readers use. One thread makes and uses it.

    DataError where there is no screen or the region is not on it.
    """

    def __init__(self, region: Region) -> None:
        mss = _mss()
        self._errors = (mss.exception.ScreenShotError, OSError)
        try:
            self._grabber = mss.MSS() if hasattr(mss, "MSS") else mss.mss()  # the older name before 10.1
            monitors = self._grabber.monitors
        except self._errors as error:
            raise DataError(f"source {region}: the screen cannot be read ({error}); it needs a desktop") from error
        if region.monitor >= len(monitors):
            raise DataError(f"source {region}: there are monitors 1 to {len(monitors) - 1}, and 0 for all of them")
        self._region, self._area = region, _area(region, monitors[region.monitor])
        self._image: np.ndarray | None = None
        self._due = 0.0

    def get(self, prop: int) -> float:
        """The frame rate; of everything else nothing is known."""
        return FRAMES_PER_SECOND if prop == cv2.CAP_PROP_FPS else 0.0

    def grab(self) -> bool:
        """Take a picture, not sooner than a thirtieth of a second after the last one."""
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = time.monotonic() + 1 / FRAMES_PER_SECOND
        try:
            self._image = np.asarray(self._grabber.grab(self._area))  # (H, W, 4) BGRA
        except self._errors as error:
            raise DataError(f"source {self._region}: the screen cannot be read any more ({error})") from error
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        """(whether there is one, the picture (H, W, 3) uint8 BGR)."""
        return True, np.ascontiguousarray(self._image[..., :3])

    def release(self) -> None:
        """Let go of the screen."""
        self._grabber.close()


def _area(region: Region, monitor: dict[str, int]) -> dict[str, int]:
    """What mss is asked for, in coordinates of the whole desktop."""
    if region.box is None:
        return {key: monitor[key] for key in ("left", "top", "width", "height")}
    left, top, width, height = region.box
    if left < 0 or top < 0 or left + width > monitor["width"] or top + height > monitor["height"]:
        size = f"{monitor['width']}x{monitor['height']}"
        raise DataError(f"source {region}: the region leaves monitor {region.monitor}, which is {size}")
    return {"left": monitor["left"] + left, "top": monitor["top"] + top, "width": width, "height": height}


def _mss() -> ModuleType:
    try:
        import mss
        import mss.exception
    except ImportError as error:
        raise MissingPackageError("source screen needs mss: pip install mss") from error
    return mss
