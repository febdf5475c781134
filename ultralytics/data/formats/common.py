"""What every label format is written from: an image's name and size and its boxes, cut at the border."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from ultralytics.utils.files import atomic_write

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

LEAST_SIDE = 0.1  # pixels; what the border leaves of a box must be an object that somebody can see and correct
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # includes lone surrogates


class LabelBox(NamedTuple):
    """A box in pixels of the image: edges counted from the left and upper border, 0 to width and 0 to height."""

    cls: int
    name: str
    score: float
    left: float
    top: float
    right: float
    bottom: float

    def xywh(self, decimals: int, scale: tuple[float, float] = (1, 1)) -> list[float]:
        """Left, top, width and height times `scale` (x, y). Edges are what is rounded, so none leaves the image."""
        left, right = (round(edge * scale[0], decimals) for edge in (self.left, self.right))
        top, bottom = (round(edge * scale[1], decimals) for edge in (self.top, self.bottom))
        return [left, top, round(right - left, decimals), round(bottom - top, decimals)]


@dataclass(frozen=True)
class LabelImage:
    """An image and the labels it gets, best first."""

    file: str  # the image's name in the labels, `street.jpg`, with folders only where names repeat
    stem: str  # name of its own label file, without suffix
    width: int
    height: int
    boxes: tuple[LabelBox, ...]


class LabelWriter(Protocol):
    """Writes one format into a folder of its own. Nothing half-written takes the name of a finished file."""

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        """`names` are all classes by index, found or not."""

    def add(self, image: LabelImage) -> None:
        """Write an image's labels, also when it has none: that an image is empty is an answer."""

    def close(self) -> None:
        """Finish the files with the images added so far."""


def label_image(result: Results, file: str, stem: str) -> LabelImage:
    """The labels that a result stands for; boxes of which the border leaves nothing are left out."""
    height, width = result.orig_shape
    boxes = result.boxes.clipped().numpy()
    rows = zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True)
    labels = (LabelBox(int(cls), readable(result.names[int(cls)]), score, *corners) for cls, score, corners in rows)
    seen = tuple(box for box in labels if min(box.right - box.left, box.bottom - box.top) >= LEAST_SIDE)
    return LabelImage(readable(file), stem, width, height, seen)


def readable(text: str) -> str:
    """The text with what UTF-8 or XML cannot hold (undecodable bytes of a file's name, control signs) as `\\ufffd`."""
    return _NOT_XML.sub("\ufffd", text)


class FileNames:
    """Names of images in labels: the file's name, with as many of its folders as tell it from the others."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}  # name -> the path it stands for

    def name(self, path: str) -> str:
        """`street.jpg`, or `night/street.jpg` where another folder's `street.jpg` came before."""
        parts = [part for part in re.split(r"[/\\]" if "\\" in path else "/", path) if part]
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[-depth:])
            if self._owners.setdefault(name, path) == path:
                return name
        return path


class Spool:
    """Records that wait in an unnamed file until the file they belong to is finished; memory does not grow with them.

    A record that could not be written whole (a full disk) is not part of it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the writer
        self._size = 0  # bytes of whole records

    def add(self, record: str, between: str = "") -> None:
        """Append a record, with `between` before it unless it is the first."""
        data = ((between if self._size else "") + record).encode("utf-8")
        self._file.seek(self._size)
        self._file.write(data)
        self._file.flush()
        self._size += len(data)

    def pour(self, stream: BinaryIO) -> None:
        """Append the records to `stream` and let the waiting file go."""
        with self._file:
            self._file.truncate(self._size)
            self._file.seek(0)
            shutil.copyfileobj(self._file, stream)


def assemble(file: Path, *parts: str | Spool) -> None:
    """Write texts and spools one after the other to `file`, whole or not at all."""
    with atomic_write(file) as stream:
        for part in parts:
            if isinstance(part, Spool):
                part.pour(stream)
            else:
                stream.write(part.encode("utf-8"))
