"""Frames of video files and animations."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
from PIL import Image, ImageSequence

from ultralytics.data.images import DAMAGED, pillow_to_bgr
from ultralytics.data.streams import Frame, frame_rate, grabbed, open_capture, public_address
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError

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
