"""Frames of videos, GIFs, cameras, network streams and the screen."""

from __future__ import annotations

import atexit
import io
import queue
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from PIL import Image, ImageSequence

from ultralytics.data.images import DAMAGED, pillow_to_bgr
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, MissingPackageError, UserError

DEFAULT_FPS = 30.0  # of cameras and files without a frame rate
COUNT_ERROR = 0.01  # some containers store their duration, not their number of frames
GIF_MILLISECONDS = 100  # per frame, if the file has no duration
RECONNECTS = 3
RECONNECT_SECONDS = 1.0  # before the first attempt; doubled for each further one
BUFFERED_FRAMES = 30
IDLE_SECONDS = 0.005
FAILED_GRABS = 3  # in a row before a video or a connection has ended: one broken packet is not the end
SILENT_SECONDS = 10.0  # without an answer or a frame before a connection is lost
CLOSE_SECONDS = 2.0
EXIT_SECONDS = 15.0  # longer than a silent connection blocks
SCREEN = re.compile(r"screen(?: (\d+))?(?: (\d+ \d+ \d+ \d+))?", re.IGNORECASE | re.ASCII)
SCREEN_FPS = 30.0


@dataclass(frozen=True)
class Frame:
    """An image to predict on, and its origin."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    path: str  # file, address, or the name given to an unnamed image
    label: str  # name in log lines: "image 1/4 a.jpg"
    kind: Literal["image", "video", "stream"] = "image"
    index: int = 1  # number of the frame in its video or stream, from 1
    fps: float = DEFAULT_FPS
    tensor: torch.Tensor | None = None  # (3, H, W) float RGB in 0..1: network input prepared by the caller


def video_frames(address: str | Path, where: str, vid_stride: int = 1) -> Iterator[Frame]:
    """Yield every `vid_stride`-th frame of a video file or address; `where` is its place among the sources, "2/5".

    Broken frames are skipped with a warning. A file that cannot be opened or is truncated is a warning, too.
    """
    name = public_address(address)
    capture = open_capture(str(address))
    total, fps = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))), frame_rate(capture)
    count = 0
    try:
        while grab_next(capture, f"video {where} {name}", count):
            count += 1
            if (count - 1) % vid_stride:
                continue
            decoded, image = capture.retrieve()
            if decoded:
                label = f"video {where} (frame {count}/{total or '?'}) {name}"
                yield Frame(image, name, label, "video", count, fps / vid_stride)
            else:
                LOGGER.warning(f"video {where} {name}: frame {count} is broken, skipped")
    finally:
        capture.release()
    if not count:
        LOGGER.warning(f"video {where} skipped: {name} cannot be opened or has no readable frame")
    elif count < total - max(1, COUNT_ERROR * total):
        LOGGER.warning(f"video {where} {name}: ended after {count} of {total} frames; the file is truncated or damaged")


def gif_frames(content: Path | bytes, name: str, where: str, vid_stride: int = 1) -> Iterator[Frame]:
    """Yield every `vid_stride`-th frame of a GIF, transparent parts in white; a single frame is an image.

    Raises DataError if the first frame is damaged. A later damaged frame ends the animation with a warning.
    """
    count = 0
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as animation:
            animated = getattr(animation, "is_animated", False)
            for count, picture in enumerate(ImageSequence.Iterator(animation), 1):
                if (count - 1) % vid_stride:
                    continue
                image = pillow_to_bgr(picture)
                if animated:
                    fps = 1000 / (picture.info.get("duration") or GIF_MILLISECONDS)
                    label = f"video {where} (frame {count}/?) {name}"
                    yield Frame(image, name, label, "video", count, fps / vid_stride)
                else:
                    yield Frame(image, name, f"image {where} {name}")
    except (*DAMAGED, Image.DecompressionBombError) as error:
        if count <= 1:
            raise DataError(f"{name}: damaged or truncated image ({error}); replace or remove the file") from error
        LOGGER.warning(f"video {where} {name}: ended at frame {count} ({error}); the file is truncated or damaged")


class ScreenCapture:
    """Grab a screen region, `screen [monitor] [left top width height]`, with the methods of `cv2.VideoCapture`.

    Monitor 0 (the default) is all monitors together. Raises DataError if there is no such monitor or region.
    """

    def __init__(self, source: str) -> None:
        try:
            import mss
        except ImportError as error:
            raise MissingPackageError("source=screen needs the package mss: pip install mss") from error
        number, region = SCREEN.fullmatch(source).groups()
        try:
            self.grabber = (mss.MSS if hasattr(mss, "MSS") else mss.mss)()  # mss.mss before 10.1
            monitor = self.grabber.monitors[int(number or 0)]
        except (mss.ScreenShotError, OSError, IndexError) as error:
            raise DataError(f"source {source}: monitor {number or 0} cannot be captured ({error})") from error
        width, height = monitor["width"], monitor["height"]
        x, y, w, h = map(int, region.split()) if region else (0, 0, width, height)
        if min(w, h) < 1 or x + w > width or y + h > height:
            raise DataError(f"source {source}: the region is not within monitor {number or 0} of {width}x{height}")
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


Capture = cv2.VideoCapture | ScreenCapture


def is_screen(address: str | int) -> bool:
    """Check whether a source is a screen region. Raises DataError if the region is malformed."""
    if str(address).lower().split()[:1] != ["screen"]:
        return False
    if not SCREEN.fullmatch(address):
        raise DataError(f"source {address!r}: expected screen [monitor] [left top width height], all whole numbers")
    return True


def open_capture(address: str | int) -> Capture:
    """Open a camera, file, stream or screen region; network addresses time out after SILENT_SECONDS."""
    if is_screen(address):
        return ScreenCapture(address)
    if "://" not in str(address):
        return cv2.VideoCapture(address)
    timeout = int(1000 * SILENT_SECONDS)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout]
    return cv2.VideoCapture(address, cv2.CAP_ANY, limits)


def frame_rate(capture: Capture) -> float:
    """Return the frames per second; DEFAULT_FPS if unknown, as for many cameras."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps < 1000 else DEFAULT_FPS


def public_address(address: str | int | Path) -> str:
    """Return the address without user name and password, for logs and file names."""
    return re.sub(r"//[^/@]*@", "//", str(address))


def grab_next(capture: Capture, label: str, count: int) -> bool:
    """Advance to the next frame after `count` ones, skipping broken ones with a warning; return False at the end."""
    start = time.monotonic()
    for failed in range(FAILED_GRABS):
        if capture.grab():
            if failed:
                LOGGER.warning(f"{label}: broken data after frame {count}, skipped")
            return True
        if time.monotonic() - start > SILENT_SECONDS / 2:  # a timeout, not a broken frame
            break
    return False


class LiveReader:
    """Background reader of a camera, network stream or screen, which reconnects when the connection ends.

    Only the newest frame is kept; with `keep_all` up to BUFFERED_FRAMES wait, and reading pauses when they are full.
    """

    def __init__(self, address: str | int, *, label: str, vid_stride: int = 1, keep_all: bool = False) -> None:
        self.address, self.label, self.vid_stride, self.keep_all = address, label, vid_stride, keep_all
        self.failure = "its reader failed, see above"  # reason why it ended; kept if the thread crashes
        self.count = 0
        self.stopping = threading.Event()
        self._frames: queue.Queue[Frame] = queue.Queue(BUFFERED_FRAMES if keep_all else 1)
        self._thread = threading.Thread(target=self._run, name=label, daemon=True)
        # A thread inside a decoder at interpreter exit would abort the process.
        self._at_exit = atexit.register(partial(self.close, EXIT_SECONDS))
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Return whether the reader has stopped; frames may still wait."""
        return not self._thread.is_alive()

    def take(self) -> Frame | None:
        """Return the next waiting frame, or None if there is none."""
        with suppress(queue.Empty):
            return self._frames.get_nowait()
        return None

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Stop reading and wait up to `seconds`; a read that blocks in a driver ends by its own timeout."""
        self.stopping.set()
        if self._thread is not threading.current_thread():  # garbage collection may run in the reader's thread
            self._thread.join(seconds)
        if self.ended:
            atexit.unregister(self._at_exit)

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
                after = f"stopped after {self.count} frames" if self.count else "cannot be opened"
                hint = "" if self.count else "; check the address, the network and the permissions of the camera"
                self.failure = f"{after}; gave up after {RECONNECTS} attempts to reconnect{hint}"
                return
            pause = RECONNECT_SECONDS * 2 ** (failures - 1)
            if self.count and self.count != before + 1:  # addresses that answer with single images are polled silently
                LOGGER.warning(f"{self.label}: no frame after {self.count}; reconnecting in {pause:.2g} s")
            self.stopping.wait(pause)

    def _read_connection(self) -> None:
        """Read until the connection ends or `stopping` is set."""
        capture = open_capture(self.address)
        fps, address = frame_rate(capture) / self.vid_stride, public_address(self.address)
        try:
            while not self.stopping.is_set() and grab_next(capture, self.label, self.count):
                self.count += 1
                if (self.count - 1) % self.vid_stride:
                    continue
                decoded, image = capture.retrieve()
                if decoded:
                    self._put(Frame(image, address, self.label, "stream", self.count, fps))
                else:
                    LOGGER.warning(f"{self.label}: frame {self.count} is broken, skipped")
        finally:
            capture.release()

    def _put(self, frame: Frame) -> None:
        """Queue a frame: wait for room with `keep_all`, else replace the older one."""
        while not self.stopping.is_set():
            try:
                return self._frames.put(frame, timeout=0.1 if self.keep_all else 0)
            except queue.Full:
                if not self.keep_all:
                    self.take()


def live_batches(
    addresses: Sequence[str | int], *, vid_stride: int = 1, keep_all: bool = False
) -> Iterator[list[Frame]]:
    """Yield batches with one frame of every stream that has a new one, until all streams have ended.

    A stream that ends is a warning. Raises DataError if no stream gave a frame.
    """
    readers = [
        LiveReader(
            a, label=f"stream {i}/{len(addresses)} {public_address(a)}", vid_stride=vid_stride, keep_all=keep_all
        )
        for i, a in enumerate(addresses, 1)
    ]
    any_frame, failures, active = False, [], list(readers)
    try:
        while active:
            batch = []
            for reader in tuple(active):
                ended = reader.ended  # before `take`: the last frames still count
                if frame := reader.take():
                    batch.append(frame)
                elif ended:
                    failures.append(f"{reader.label}: {reader.failure}")
                    if any_frame or len(active) > 1:  # otherwise the exception has it
                        LOGGER.warning(failures[-1])
                    active.remove(reader)
            if batch:
                any_frame = True
                yield batch
            else:
                time.sleep(IDLE_SECONDS)
            del batch, frame  # free them while waiting for the next ones
    finally:
        for reader in readers:
            reader.stopping.set()  # all first, so that they end at the same time
        for reader in readers:
            reader.close()
    if not any_frame:
        raise DataError(f"no stream gave a frame: {'; '.join(failures)}")
