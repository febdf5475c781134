"""Prediction sources: find the images, videos and streams of a source, and yield batches of frames."""

from __future__ import annotations

import csv
import glob
import io
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import torch
from PIL import Image

from ultralytics.data.images import (
    IMAGE_SUFFIXES,
    check_tensor,
    decode_image,
    is_image,
    read_image,
    tensor_to_image,
    to_bgr,
)
from ultralytics.data.streams import Frame, gif_frames, is_screen, live_batches, public_address, video_frames
from ultralytics.utils import LOGGER
from ultralytics.utils.downloads import fetch
from ultralytics.utils.errors import DataError, UserError, did_you_mean

T = TypeVar("T")
END = object()
VIDEO_SUFFIXES = (".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
LIST_SUFFIXES = (".csv", ".streams", ".txt")
ACCEPTED = f"images {' '.join(sorted(IMAGE_SUFFIXES))}, videos {' '.join(VIDEO_SUFFIXES)}"
HEAD_BYTES = 1 << 16  # enough for Pillow to recognize a file
AHEAD = 4  # frames to decode in advance; at least one batch
ADDRESS_LIMIT = 1 << 29  # bytes of one image behind an address


@dataclass(frozen=True)
class Entry:
    """One part of a source: a path or address, a camera number, an array or a tensor."""

    kind: Literal["image", "video", "stream", "array", "tensor"]
    value: Any


@dataclass(frozen=True)
class Source:
    """Iterable over batches of frames; every iteration starts from the beginning.

    Files are decoded in a background thread, at most `ahead` frames (at least a batch) in advance.
    """

    entries: list[Entry]
    batch: int = 1
    vid_stride: int = 1
    stream_buffer: bool = False
    ahead: int = AHEAD

    def __post_init__(self) -> None:
        live = sum(entry.kind == "stream" for entry in self.entries)
        if 0 < live < len(self):
            raise DataError(
                f"source: {live} live streams together with {len(self) - live} files or images; streams never end, so "
                "use only streams"
            )

    @property
    def endless(self) -> bool:
        """Return whether the source is live."""
        return self.entries[0].kind == "stream"

    def __len__(self) -> int:
        """Return the number of files, images and streams; a video counts once."""
        return len(self.entries)

    def __iter__(self) -> Iterator[list[Frame]]:
        if self.endless:
            addresses = [entry.value for entry in self.entries]
            return live_batches(addresses, vid_stride=self.vid_stride, keep_all=self.stream_buffer)
        frames = self._frames()
        if self.ahead and any(entry.kind in ("image", "video") for entry in self.entries):
            frames = read_ahead(frames, max(self.ahead, self.batch))
        return batches(frames, self.batch)

    def _frames(self) -> Generator[Frame, None, None]:
        for position, entry in enumerate(self.entries, 1):
            where, unnamed = f"{position}/{len(self)}", f"image{position - 1}.jpg"
            if entry.kind == "tensor":
                yield Frame(tensor_to_image(entry.value), unnamed, f"image {where} {unnamed}", tensor=entry.value)
            elif entry.kind == "array":
                name = getattr(entry.value, "filename", "") or unnamed
                yield Frame(to_bgr(entry.value), name, f"image {where} {name}")
            else:
                try:
                    yield from self._file_frames(entry, where)
                except UserError as error:
                    LOGGER.warning(f"image {where} skipped: {error}")

    def _file_frames(self, entry: Entry, where: str) -> Iterator[Frame]:
        name = public_address(entry.value)
        is_gif, remote = Path(name).suffix.lower() == ".gif", "://" in str(entry.value)
        if entry.kind == "video" and not is_gif:
            yield from video_frames(entry.value, where, self.vid_stride)
            return
        content = fetch(str(entry.value), ADDRESS_LIMIT) if remote else entry.value
        if is_gif:
            yield from gif_frames(content, name, where, self.vid_stride)
        else:
            image = decode_image(name, content) if remote else read_image(content)
            yield Frame(image, name, f"image {where} {name}")


def load_source(
    source: Any, *, batch: int = 1, vid_stride: int = 1, stream_buffer: bool = False, ahead: int = AHEAD
) -> Source:
    """Return the frames of `source` in batches.

    Accepted: path of an image, video or folder; glob (`**` searches subfolders); .txt/.csv list of paths; .streams
    list of addresses; camera number; rtsp/http address; `screen` with a region; uint8 BGR array (H, W, 3); PIL image;
    float RGB tensor (B, 3, H, W) in 0..1; or a list of these. Raises DataError if it is missing or not supported.

    >>> source = load_source([np.zeros((4, 6, 3), np.uint8)] * 3, batch=2)
    >>> [[frame.path for frame in frames] for frames in source]
    [['image0.jpg', 'image1.jpg'], ['image2.jpg']]
    """
    return Source(find_entries(source), batch, vid_stride, stream_buffer, ahead)


def read_ahead(items: Generator[T, None, None], ahead: int) -> Generator[T, None, None]:
    """Yield `items` in order while a thread makes up to `ahead` of them in advance.

    An exception of `items` is raised after the items before it. Closing this generator ends the thread and closes
    `items`.
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        waiting = deque(reader.submit(next, items, END) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not END:
            waiting.append(reader.submit(next, items, END))
            yield item
            del item  # free it while waiting for the next one
    finally:
        reader.shutdown(cancel_futures=True)
        items.close()


def batches(frames: Generator[Frame, None, None], size: int) -> Iterator[list[Frame]]:
    """Yield groups of up to `size` frames; tensors are grouped with tensors of the same shape only, to be stacked.

    A full group is yielded without waiting for the next frame. Closing this generator closes `frames`.
    """

    def shape(frame: Frame) -> torch.Size | None:
        return None if frame.tensor is None else frame.tensor.shape

    group: list[Frame] = []
    try:
        for frame in frames:
            if group and shape(group[0]) != shape(frame):
                yield group
                group = []
            group.append(frame)
            del frame
            if len(group) == size:
                yield group
                group = []
        if group:
            yield group
    finally:
        frames.close()


def find_entries(source: Any) -> list[Entry]:
    """Return the entries of a source of any accepted kind, in order."""
    if isinstance(source, (list, tuple)):
        entries = [entry for item in source for entry in find_entries(item)]
        if not entries:
            raise DataError("source: an empty list; expected at least one path, array, image or tensor")
        return entries
    if isinstance(source, np.ndarray):
        return [Entry("array", image) for image in (source if source.ndim == 4 else [source])]
    if isinstance(source, Image.Image):
        return [Entry("array", source)]
    if isinstance(source, torch.Tensor):
        return [Entry("tensor", image) for image in check_tensor(source)]
    if isinstance(source, int) and not isinstance(source, bool):
        return [Entry("stream", source)]
    if isinstance(source, (str, Path)) and str(source).strip():
        return _text_entries(str(source).strip())
    expected = "a path, glob, camera number, address, screen, array, PIL image, tensor or a list of these"
    raise DataError(f"source: got {source!r} ({type(source).__name__}), expected {expected}")


def _text_entries(text: str, parents: tuple[Path, ...] = ()) -> list[Entry]:
    """Return the entries of a path, glob or address; `parents` are the list files that contain it."""
    if text.isdecimal() or is_screen(text):
        return [Entry("stream", int(text) if text.isdecimal() else text)]
    if text.lower().startswith("file://"):
        text = url2pathname(urlparse(text).path)
    if "://" in text:
        address = urlparse(text)
        kind = _kind(address.path) if address.scheme in ("http", "https") else None
        return [Entry(kind or "stream", text)]
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            return _group_entries(sorted(path.iterdir()), f"folder {path}")
        if path.is_file():
            return _file_entries(path, parents)
    except OSError as error:  # too long a name, a folder without permission
        raise DataError(f"source {text[:200]}: cannot be read ({error.strerror})") from error
    if any(mark in text for mark in "*?["):
        return _group_entries(sorted(map(Path, glob.glob(str(path), recursive=True))), f"pattern {text}")
    if not path.parent.is_dir():
        raise DataError(f"source {text}: folder {path.parent} does not exist")
    raise DataError(f"source {text}: does not exist{did_you_mean(path.name, (p.name for p in path.parent.iterdir()))}")


def _kind(path: str | Path) -> Literal["image", "video"] | None:
    suffix = Path(path).suffix.lower()
    return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None


def _group_entries(paths: list[Path], where: str) -> list[Entry]:
    """Return the images and videos of a folder or a pattern, without hidden files."""
    visible = [path for path in paths if not path.name.startswith(".") and path.is_file()]
    entries = [Entry(kind, path) for path in visible if (kind := _kind(path))]
    if not entries:
        raise DataError(f"source {where}: {len(paths)} entries, no image or video among them; expected {ACCEPTED}")
    return entries


def _file_entries(path: Path, parents: tuple[Path, ...]) -> list[Entry]:
    """Return the entries of one file; its content is checked if the suffix is unknown."""
    if path.suffix.lower() in LIST_SUFFIXES:
        return _list_entries(path, parents)
    kind = _kind(path)
    if kind is None:
        with path.open("rb") as file:
            kind = "image" if is_image(file.read(HEAD_BYTES)) else None
    if kind is None:
        raise DataError(f"source {path}: unknown file type {path.suffix!r}; expected {ACCEPTED}, or a list .txt .csv")
    return [Entry(kind, path)]


def _list_entries(path: Path, parents: tuple[Path, ...]) -> list[Entry]:
    """Return the entries of a list file: one path or address per row (.csv: first column); `#` starts a comment.

    Relative paths refer to the working folder, then to the folder of the list. Invalid rows are skipped with a warning.
    """
    if path.resolve() in parents:
        raise DataError(f"source {path}: the list contains itself, or another list that contains it")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.reader(io.StringIO(text)) if path.suffix.lower() == ".csv" else ([s] for s in text.split("\n"))
        names = [(number, row[0].strip()) for number, row in enumerate(rows, 1) if row and row[0].strip()]
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        raise DataError(f"source {path}: not text in UTF-8 ({reason}); save the list as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"source {path}: not a readable table ({error})") from error
    entries = []
    for number, name in names:
        if name.startswith("#"):
            continue
        try:
            beside = path.parent / name
            text = str(beside) if beside.exists() and not Path(name).exists() else name
            entries += _text_entries(text, (*parents, path.resolve()))
        except OSError as error:
            LOGGER.warning(f"{path}, line {number} skipped: {name[:200]} ({error.strerror})")
        except DataError as error:
            LOGGER.warning(f"{path}, line {number} skipped: {error}")
    if not entries:
        raise DataError(f"{path}: none of its {len(names)} rows is an image, video or stream")
    return entries
