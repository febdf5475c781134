"""Cameras, network streams and the screen: a thread for each keeps reading, so that no frame is stale when used."""

from __future__ import annotations

import atexit
import io
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from PIL import Image, ImageSequence

from ultralytics.data.images import DAMAGED, pillow_to_bgr
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, MissingPackageError, UserError

COUNT_ERROR = 0.01  # some containers say how long they are, not how many frames they have
GIF_MILLISECONDS = 100  # of a frame that does not say


def video_frames(address: str | Path, where: str, vid_stride: int = 1) -> Iterator[Frame]:
    """Every `vid_stride`-th frame of a video file, or of a video behind an http address; `where` is "2/5".

    A frame that cannot be decoded is reported and left out, and so is a file that cannot be opened or ends too early.
    """
    name = public_address(address)
    capture = open_capture(str(address))
    total, fps = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))), frame_rate(capture)
    done = 0
    try:
        while grabbed(capture, f"video {where} {name}", done):
            done += 1
            if (done - 1) % vid_stride:
                continue
            decoded, image = capture.retrieve()
            if not decoded:
                LOGGER.warning(f"video {where} {name}: frame {done} is broken, skipped")
                continue
            label = f"video {where} (frame {done}/{total or '?'}) {name}"
            yield Frame(image, name, label, "video", done, fps / vid_stride)
    finally:
        capture.release()
    if not done:
        LOGGER.warning(f"video {where} skipped: {name} cannot be opened or has no frame that can be read")
    elif done < total - max(1, COUNT_ERROR * total):
        LOGGER.warning(f"video {where} {name}: ended after {done} of {total} frames; the file is cut off or damaged")


def gif_frames(content: Path | bytes, name: str, where: str, vid_stride: int = 1) -> Iterator[Frame]:
    """Every `vid_stride`-th frame of a GIF, transparent parts over white; one with a single frame is an image.

    DataError where not even the first frame can be read; a later one that cannot ends the animation with a report.
    """
    done = 0
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as animation:
            moving = getattr(animation, "is_animated", False)
            for done, picture in enumerate(ImageSequence.Iterator(animation), 1):
                if (done - 1) % vid_stride:
                    continue
                image = pillow_to_bgr(picture)
                if not moving:
                    yield Frame(image, name, f"image {where} {name}")
                    continue
                fps = 1000 / (picture.info.get("duration") or GIF_MILLISECONDS)
                label = f"video {where} (frame {done}/?) {name}"
                yield Frame(image, name, label, "video", done, fps / vid_stride)
    except (*DAMAGED, Image.DecompressionBombError) as error:
        if done <= 1:
            raise DataError(f"{name}: damaged or truncated image ({error}); replace or remove the file") from error
        LOGGER.warning(f"video {where} {name}: ended at frame {done} ({error}); the file is cut off or damaged")


def is_gif(name: Any) -> bool:
    """Whether a file is a GIF by its name."""
    return Path(str(name)).suffix.lower() == ".gif"


SCREEN = re.compile(r"screen(?: (\d+))?(?: (\d+ \d+ \d+ \d+))?", re.IGNORECASE | re.ASCII)
SCREEN_FPS = 30.0


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


RECONNECTS = 3
RECONNECT_SECONDS = 1.0  # before the first attempt; doubled for each one after it
BUFFERED_FRAMES = 30
IDLE_SECONDS = 0.005
FAILED_GRABS = 3  # in a row, before a video or a connection counts as ended: one broken packet is not the end
SILENT_SECONDS = 10.0  # without an answer or a frame, before a connection counts as lost
CLOSE_SECONDS = 2.0
CHECKS = "check the address, the network and the user's rights to the camera"


@dataclass(frozen=True)
class Frame:
    """One picture to run the network on, and where it came from."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    path: str  # file, address, or the name an unnamed picture was given
    label: str  # how a log line calls it: "image 1/4 a.jpg"
    kind: Literal["image", "video", "stream"] = "image"
    index: int = 1  # number of the frame in its video or stream, from 1
    fps: float = 30.0
    tensor: torch.Tensor | None = None  # (3, H, W) float RGB in 0..1: the network input as the caller prepared it


def is_screen(address: str | int) -> bool:
    """Return whether a source is a screen region. Raises DataError for a region that is malformed."""
    if str(address).lower().split()[:1] != ["screen"]:
        return False
    if not SCREEN.fullmatch(address):
        raise DataError(f"source {address!r}: expected screen [monitor] [left top width height], all whole numbers")
    return True


def frame_rate(capture: cv2.VideoCapture | ScreenCapture) -> float:
    """Frames per second; 30 where the source does not say, as cameras often do not."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps < 1000 else 30.0


def open_capture(address: str | int) -> cv2.VideoCapture | ScreenCapture:
    """The device, file or stream at `address`, opened or not; network addresses are given up when they stay silent."""
    if is_screen(address):
        return ScreenCapture(address)
    if "://" not in str(address):
        return cv2.VideoCapture(address)
    milliseconds = int(1000 * SILENT_SECONDS)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
    return cv2.VideoCapture(address, cv2.CAP_ANY, limits)


def public_address(address: str | int | Path) -> str:
    """The address without user name and password, for logs and file names."""
    return re.sub(r"//[^/@]*@", "//", str(address))


def grabbed(capture: cv2.VideoCapture | ScreenCapture, label: str, count: int) -> bool:
    """Go to the next frame, over broken ones, which are reported; False at the end. `count` frames came before it."""
    start = time.monotonic()
    for failed in range(FAILED_GRABS):
        if capture.grab():
            if failed:
                LOGGER.warning(f"{label}: broken data after frame {count}, skipped")
            return True
        if time.monotonic() - start > SILENT_SECONDS / 2:  # it waited for its time to run out: nothing broken, silence
            break
    return False


class LiveReader:
    """Frames of one camera, network stream or screen, read in the background; connections that drop are made anew.

    Without `keep_all` only the newest frame is kept; with it up to 30 wait, and reading pauses rather than lose one.
    """

    def __init__(self, address: str | int, *, label: str, vid_stride: int = 1, keep_all: bool = False) -> None:
        self.address, self.label = address, label
        self.vid_stride, self.keep_all = vid_stride, keep_all
        self.failure = "its reader failed, see above"  # why it has ended, where the thread lives to say so
        self._frames: queue.Queue[Frame] = queue.Queue(BUFFERED_FRAMES if keep_all else 1)
        self._count = 0
        self._reader = Background(self._run, name=label)

    @property
    def ended(self) -> bool:
        """Whether no further frame will come, but for those that wait."""
        return self._reader.ended

    def take(self) -> Frame | None:
        """A frame not yet taken, or None where there is none at the moment."""
        with suppress(queue.Empty):
            return self._frames.get_nowait()
        return None

    def stop(self) -> None:
        """Read no further frame; `close` waits until that is so."""
        self._reader.stop()

    def close(self) -> None:
        """Stop reading and let go of the device."""
        self._reader.close(CLOSE_SECONDS)

    def _run(self, stopping: threading.Event) -> None:
        failures = 0
        while not stopping.is_set():
            before = self._count
            try:
                self._read_connection(stopping)
            except UserError as error:  # reconnecting would not help
                self.failure = str(error)
                return
            failures = failures + 1 if self._count == before else 1
            if failures > RECONNECTS:
                after = f"stopped after {self._count} frames" if self._count else "cannot be opened"
                hint = "" if self._count else f"; {CHECKS}"
                self.failure = f"{after}; gave up after {RECONNECTS} attempts to reconnect{hint}"
                return
            pause = RECONNECT_SECONDS * 2 ** (failures - 1)
            if self._count and self._count != before + 1:  # an address that gives one picture at a time is asked again
                LOGGER.warning(f"{self.label}: no frame after {self._count}; reconnecting in {pause:.2g} s")
            stopping.wait(pause)

    def _read_connection(self, stopping: threading.Event) -> None:
        """Read until the connection ends or `close` is called."""
        capture = open_capture(self.address)
        fps, address = frame_rate(capture), public_address(self.address)
        try:
            while not stopping.is_set() and grabbed(capture, self.label, self._count):
                self._count += 1
                if (self._count - 1) % self.vid_stride:
                    continue
                decoded, image = capture.retrieve()
                if decoded:
                    frame = Frame(image, address, self.label, "stream", self._count, fps / self.vid_stride)
                    self._offer(frame, stopping)
                else:
                    LOGGER.warning(f"{self.label}: frame {self._count} is broken, skipped")
        finally:
            capture.release()

    def _offer(self, frame: Frame, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                return self._frames.put(frame, timeout=0.1 if self.keep_all else 0)
            except queue.Full:
                if not self.keep_all:
                    self.take()


def live_batches(
    addresses: Sequence[str | int], *, vid_stride: int = 1, keep_all: bool = False
) -> Iterator[list[Frame]]:
    """Batches with one frame of every stream that has a new one, until all streams have ended.

    A stream that ends is reported; DataError where not one of them gave a frame.
    """
    labels = [f"stream {i}/{len(addresses)} {public_address(a)}" for i, a in enumerate(addresses, 1)]
    readers = [
        LiveReader(a, label=label, vid_stride=vid_stride, keep_all=keep_all)
        for a, label in zip(addresses, labels, strict=True)
    ]
    seen, failures = False, []
    try:
        while readers:
            batch: list[Frame] = []
            for reader in tuple(readers):
                ended = reader.ended  # before taking: its last frames still count
                if frame := reader.take():
                    batch.append(frame)
                elif ended:
                    failures.append(f"{reader.label}: {reader.failure}")
                    if seen or len(readers) > 1:  # otherwise the error says it
                        LOGGER.warning(failures[-1])
                    readers.remove(reader)
            if batch:
                seen = True
                yield batch
            else:
                time.sleep(IDLE_SECONDS)
            del batch, frame  # the caller's now; what is waited for next must not keep it
    finally:
        for reader in readers:
            reader.stop()  # all of them first, so that they end side by side
        for reader in readers:
            reader.close()
    if not seen:
        raise DataError(f"no stream gave a frame: {'; '.join(failures)}")


EXIT_SECONDS = 15.0  # longer than a silent connection is waited for


class Background:
    """Runs `work`, which looks at the event it is given, in a thread of its own.

    At the end of the program the thread is waited for: one that comes back from a decoder to an interpreter that is
    gone would abort the process.
    """

    def __init__(self, work: Callable[[threading.Event], None], *, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=work, args=(self._stopping,), name=name, daemon=True)
        atexit.register(self._wait_at_exit)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the work is done, given up or has failed."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to stop; `close` waits until it has."""
        self._stopping.set()

    def close(self, seconds: float) -> None:
        """Stop and wait, at most `seconds`: what hangs inside a driver cannot be ended, it goes when it returns."""
        self.stop()
        if self._thread is not threading.current_thread():  # the collector may close a forgotten user from anywhere
            self._thread.join(seconds)
        if self.ended:
            atexit.unregister(self._wait_at_exit)

    def _wait_at_exit(self) -> None:
        self.stop()
        self._thread.join(EXIT_SECONDS)
