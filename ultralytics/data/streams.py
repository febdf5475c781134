"""Frames of videos, cameras, network streams and the screen."""

import atexit
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

from ultralytics.data.images import memory_slots
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DataError, UserError, counted

DEFAULT_FPS = 30.0  # of cameras and files without a frame rate
RECONNECTS = 3
RECONNECT_SECONDS = 1.0  # before the first attempt; doubled for each further one
BUFFERED_FRAMES = 30
IDLE_SECONDS = 0.005
FAILED_GRABS = 3  # in a row before a video or a connection has ended: one broken packet is not the end
SILENT_SECONDS = 10.0  # without an answer or a frame before a connection is lost
CLOSE_SECONDS = 15.0  # longer than a silent connection blocks
SCREEN = re.compile(r"screen(?: (\d+))?(?: (\d+ \d+ \d+ \d+))?", re.IGNORECASE | re.ASCII)
SCREEN_FPS = 30.0
FRAME_COST = 10  # bytes per pixel that decoding a frame of a video takes


@dataclass(frozen=True)
class Frame:
    """An image to predict on, and its origin."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    path: str  # file, address, or the name given to an unnamed image
    label: str  # name in log lines: "image 1/4 a.jpg"
    kind: Literal["image", "video", "stream"] = "image"
    index: int = 1  # number in its stream, or among the frames taken from its video, from 1
    fps: float = DEFAULT_FPS
    tensor: torch.Tensor | None = None  # (3, H, W) float RGB in 0..1: network input prepared by the caller


def video_frames(address: str | Path, where: str, vid_stride: int = 1) -> Iterator[Frame]:
    """Yield every `vid_stride`-th frame of a video file or address; `where` is its place among the sources, "2/5".

    With a stride of 3 these are frames 3, 6, ..., numbered from 1. A video without any, or truncated, is a warning.
    """
    name, count = public_address(address), 0
    capture = open_capture(str(address))
    total, fps = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))), frame_rate(capture) / vid_stride
    width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    try:
        memory_slots(name, (width, height), FRAME_COST)
    except DataError as error:
        LOGGER.warning(f"video {where} skipped: {error}")
        return
    path = name if "://" in name else os.path.abspath(name)
    for count, image in read_frames(capture, f"video {where} {name}", vid_stride, first=vid_stride):
        number = count // vid_stride
        label = f"video {where} (frame {number}/{total // vid_stride or '?'}) {name}"
        yield Frame(image, path, label, "video", number, fps)
    if not count:
        short = f"has fewer frames than vid_stride={vid_stride}"
        found = short if 0 < total < vid_stride else "cannot be opened or has no readable frame"
        LOGGER.warning(f"video {where} skipped: {name} {found}")
    elif count < 0.99 * total - vid_stride:  # some containers store their duration, not their number of frames
        frames = counted(total, "frame")
        LOGGER.warning(f"video {where} {name}: ended after {count} of {frames}; the file is truncated or damaged")


class ScreenCapture:
    """Grab a screen region, `screen [monitor] [left top width height]`, with the methods of `cv2.VideoCapture`.

    Monitor 0 (the default) is all monitors together.
    """

    def __init__(self, source: str) -> None:
        mss = require("mss", "mss", "source=screen")
        if not (match := SCREEN.fullmatch(source)):
            raise DataError(f"source {source!r}: expected screen [monitor] [left top width height], all whole numbers")
        number, region = int(match[1] or 0), match[2]
        self.grabber = mss.MSS() if hasattr(mss, "MSS") else mss.mss()  # mss.mss before 10.1
        if number >= len(self.grabber.monitors):
            raise DataError(f"source {source}: there is no monitor {number}")
        monitor = self.grabber.monitors[number]
        width, height = monitor["width"], monitor["height"]
        x, y, w, h = map(int, region.split()) if region else (0, 0, width, height)
        if min(w, h) < 1 or x + w > width or y + h > height:
            raise DataError(f"source {source}: the region is not within monitor {number} of {width}x{height}")
        self.area = {"left": monitor["left"] + x, "top": monitor["top"] + y, "width": w, "height": h}

    def get(self, prop: int) -> float:
        return SCREEN_FPS if prop == cv2.CAP_PROP_FPS else 0.0

    def grab(self) -> bool:
        time.sleep(1 / SCREEN_FPS)
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.asarray(self.grabber.grab(self.area))[..., :3].copy()  # BGRA -> BGR

    def release(self) -> None:
        self.grabber.close()


def is_screen(address: str | int) -> bool:
    """Check whether a source is `screen`, with or without a region."""
    return str(address).lower().split()[:1] == ["screen"]


def open_capture(address: str | int) -> cv2.VideoCapture | ScreenCapture:
    """Open a camera, file, stream or screen region; network addresses time out after SILENT_SECONDS."""
    if is_screen(address):
        return ScreenCapture(address)
    if isinstance(address, int):
        return cv2.VideoCapture(address)
    address = opencv_text(address)
    if "://" not in str(address):
        return cv2.VideoCapture(address)
    timeout = int(1000 * SILENT_SECONDS)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout]
    return cv2.VideoCapture(address, cv2.CAP_ANY, limits)


def opencv_text(text: str) -> str | bytes:
    """Return a text that OpenCV can read: names that are not UTF-8, with which it crashes, as bytes."""
    return os.fsencode(text) if any("\ud800" <= c <= "\udfff" for c in text) else text


def frame_rate(capture: cv2.VideoCapture | ScreenCapture) -> float:
    """Return the frames per second; DEFAULT_FPS if unknown, as for many cameras."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps < 1000 else DEFAULT_FPS


def writable_rate(fps: float) -> float:
    """Return the frame rate nearest to `fps` that fits the 16 bits of a MPEG-4 time base: 142.857 becomes 142.86.

    Examples:
        >>> [writable_rate(fps) for fps in (25, 29.97, 1000 / 7, 999.99, 0.001)]
        [25, 29.97, 142.86, 1000.0, 0.01]
    """
    fps = max(fps, 0.01)
    return round(fps, int(math.log10(65535 / fps)))


def public_address(address: str | int | Path) -> str:
    """Return the address without user name and password, for logs and file names."""
    return re.sub(r"//[^/@]*@", "//", str(address))


def read_frames(
    capture: cv2.VideoCapture | ScreenCapture, label: str, vid_stride: int, count: int = 0, first: int = 1
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield number and image of every `vid_stride`-th frame from `first` on, after `count` ones; release the capture.

    Broken frames are skipped with a warning.
    """
    failed, start = 0, time.monotonic()
    try:
        while failed < FAILED_GRABS and time.monotonic() - start < SILENT_SECONDS / 2:
            if not capture.grab():
                failed += 1
                continue
            if failed:
                LOGGER.warning(f"{label}: broken data after frame {count}, skipped")
            count += 1
            if (count - first) % vid_stride == 0:
                decoded, image = capture.retrieve()
                if decoded:
                    yield count, image
                else:
                    LOGGER.warning(f"{label}: frame {count} is broken, skipped")
            failed, start = 0, time.monotonic()
    finally:
        capture.release()


class LiveReader:
    """Background reader of a camera, network stream or screen, which reconnects when the connection ends.

    Only the newest frame is kept; with `keep_all` up to BUFFERED_FRAMES wait, and reading pauses when they are full.
    """

    def __init__(self, address: str | int, label: str, *, vid_stride: int = 1, keep_all: bool = False) -> None:
        self.address, self.label, self.vid_stride, self.keep_all = address, label, vid_stride, keep_all
        self.frames: deque[Frame] = deque(maxlen=BUFFERED_FRAMES if keep_all else 1)  # when full, drops the oldest
        self.count = 0
        self.failure = "its reader failed, see above"  # reason why it ended; kept if the thread crashes
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name=label, daemon=True)
        atexit.register(self.close)  # a thread inside a decoder at interpreter exit would abort the process
        self.thread.start()

    def close(self) -> None:
        """Stop reading, and wait for a read that blocks in a driver."""
        self.stopping.set()
        self.thread.join(CLOSE_SECONDS)
        atexit.unregister(self.close)

    def _run(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            before = self.count
            try:
                self._read_connection()
            except UserError as error:  # reconnecting would not help
                self.failure = str(error)
                return
            failures = failures + 1 if self.count == before else 1
            if failures > RECONNECTS:
                end = f"stopped after {counted(self.count, 'frame')}" if self.count else "cannot be opened"
                hint = "check the address, the network and the permissions of the camera"
                self.failure = f"{end}; gave up after {RECONNECTS} attempts to reconnect; {hint}"
                return
            pause = RECONNECT_SECONDS * 2 ** (failures - 1)
            if self.count and self.count != before + 1:  # addresses that answer with single images are polled silently
                LOGGER.warning(f"{self.label}: no frame after {self.count}; reconnecting in {pause:.2g} s")
            self.stopping.wait(pause)

    def _read_connection(self) -> None:
        capture = open_capture(self.address)
        fps, address = frame_rate(capture) / self.vid_stride, public_address(self.address)
        for count, image in read_frames(capture, self.label, self.vid_stride, self.count):
            while self.keep_all and len(self.frames) == BUFFERED_FRAMES and not self.stopping.wait(IDLE_SECONDS):
                pass  # wait for room
            if self.stopping.is_set():
                break
            self.count = count
            self.frames.append(Frame(image, address, self.label, "stream", count, fps))


def live_batches(
    addresses: Sequence[str | int], *, vid_stride: int = 1, keep_all: bool = False
) -> Iterator[list[Frame]]:
    """Yield batches with one frame of every stream that has a new one, until all streams have ended.

    A stream that ends is a warning. Raises DataError if no stream gave a frame.
    """
    labels = [f"stream {i}/{len(addresses)} {public_address(address)}" for i, address in enumerate(addresses, 1)]
    options = {"vid_stride": vid_stride, "keep_all": keep_all}
    readers = [LiveReader(address, label, **options) for address, label in zip(addresses, labels, strict=True)]
    active, any_frame = list(readers), False
    try:
        while active:
            ended = [reader for reader in active if not reader.thread.is_alive()]  # their last frames may still wait
            batch = [reader.frames.popleft() for reader in active if reader.frames]
            for reader in ended:
                if not reader.frames:
                    LOGGER.warning(f"{reader.label}: {reader.failure}")
                    active.remove(reader)
            if batch:
                any_frame = True
                yield batch
            else:
                time.sleep(IDLE_SECONDS)
            del batch  # free it while waiting for the next one
    finally:
        for reader in readers:
            reader.close()
    if not any_frame:
        raise DataError(f"no stream gave a frame: {'; '.join(f'{r.label}: {r.failure}' for r in readers)}")
