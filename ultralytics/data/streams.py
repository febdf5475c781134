"""Cameras, network streams and the screen: a thread for each keeps reading, so that no frame is stale when used."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

from ultralytics.data.background import Background
from ultralytics.data.screen import Region, ScreenCapture
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError

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


def frame_rate(capture: cv2.VideoCapture | ScreenCapture) -> float:
    """Frames per second; 30 where the source does not say, as cameras often do not."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps < 1000 else 30.0


def open_capture(address: str | int | Region) -> cv2.VideoCapture | ScreenCapture:
    """The device, file or stream at `address`, opened or not; network addresses are given up when they stay silent."""
    if isinstance(address, Region):
        return ScreenCapture(address)
    if "://" not in str(address):
        return cv2.VideoCapture(address)
    milliseconds = int(1000 * SILENT_SECONDS)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
    return cv2.VideoCapture(address, cv2.CAP_ANY, limits)


def public_address(address: str | int | Path | Region) -> str:
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

    def __init__(self, address: str | int | Region, *, label: str, vid_stride: int = 1, keep_all: bool = False) -> None:
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
            except DataError as error:  # nothing that another attempt would mend
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
    addresses: Sequence[str | int | Region], *, vid_stride: int = 1, keep_all: bool = False
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
