"""Prediction sources: find the images, videos and streams of a source, and yield batches of frames."""

import csv
import glob
import os
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, TypeVar
from urllib.parse import urlparse

import numpy as np
import torch
from PIL import Image

from ultralytics.data import images
from ultralytics.data.labels import find_image
from ultralytics.data.streams import Frame, is_screen, live_batches, public_address, video_frames
from ultralytics.utils import LOGGER
from ultralytics.utils.downloads import fetch
from ultralytics.utils.errors import DataError, MissingFileError, UserError, counted, did_you_mean
from ultralytics.utils.files import is_hidden, list_files, read_bytes, read_text, walk
from ultralytics.utils.public import public_names

T = TypeVar("T")
END = object()
VIDEO_SUFFIXES = (".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
LIST_SUFFIXES = (".csv", ".streams", ".txt")
MEDIA_SUFFIXES = (*images.IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
ACCEPTED = f"images {' '.join(sorted(images.IMAGE_SUFFIXES))}, videos {' '.join(VIDEO_SUFFIXES)}"
MAX_ENTRIES, MAX_DEPTH = 1_000_000, 10  # of a source: files, arrays and streams; lists within lists
MAX_TEXT = 4096  # characters of a path or address
AHEAD = 4  # frames to decode in advance; at least one batch


@dataclass(frozen=True)
class Entry:
    """One part of a source: a path or address, a camera number, an array or a tensor."""

    kind: Literal["image", "video", "stream", "array", "tensor"]
    value: Any


@dataclass(frozen=True)
class Source:
    """Iterable over batches of frames; every iteration starts from the beginning.

    Files are decoded in a background thread, some frames in advance.
    """

    entries: list[Entry]
    batch: int = 1
    vid_stride: int = 1
    stream_buffer: bool = False

    def __post_init__(self) -> None:
        live = sum(entry.kind == "stream" for entry in self.entries)
        if 0 < live < len(self):
            rest = len(self) - live
            raise DataError(f"source: live streams, which never end ({live}), with files or images ({rest})")

    @property
    def bs(self) -> int:
        """Return the images of a batch, by the published name."""
        return self.batch

    @property
    def mode(self) -> str:
        """Return "image", "video" or "stream", the kind of the first entry."""
        kind = self.entries[0].kind
        return kind if kind in ("video", "stream") else "image"

    @property
    def source_type(self) -> SimpleNamespace:
        """Return which kind the first entry is: from_img (an array), tensor, stream or screenshot; else none."""
        kind, screen = self.entries[0].kind, is_screen(self.entries[0].value)
        kinds = {"from_img": kind == "array", "tensor": kind == "tensor", "stream": kind == "stream" and not screen}
        return SimpleNamespace(screenshot=screen, **kinds)

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
            yield from live_batches(addresses, vid_stride=self.vid_stride, keep_all=self.stream_buffer)
            return
        frames = self._frames()
        if any(entry.kind not in ("array", "tensor") for entry in self.entries):
            frames = read_ahead(frames, max(AHEAD, self.batch))
        while group := list(islice(frames, self.batch)):
            yield group

    def _frames(self) -> Generator[Frame, None, None]:
        for position, entry in enumerate(self.entries, 1):
            where, unnamed = f"{position}/{len(self)}", f"image{position - 1}.jpg"
            if entry.kind == "tensor":
                image = images.tensor_to_image(entry.value)
                yield Frame(image, unnamed, f"image {where} {unnamed}", tensor=entry.value)
            elif entry.kind == "array":
                name = getattr(entry.value, "filename", "") or unnamed
                yield Frame(images.to_bgr(entry.value), name, f"image {where} {name}")
            elif entry.kind == "video":
                yield from video_frames(entry.value, where, self.vid_stride)
            else:
                name, remote = public_address(entry.value), "://" in str(entry.value)
                try:
                    limit = images.FILE_LIMIT
                    data = fetch(entry.value, limit) if remote else read_bytes(entry.value, DataError, limit)
                    path = name if remote else os.path.abspath(name)
                    yield Frame(images.decode_image(name, data), path, f"image {where} {name}")
                except UserError as error:
                    LOGGER.warning(f"image {where} skipped: {error}")


def load_source(source: Any, *, batch: int = 1, vid_stride: int = 1, stream_buffer: bool = False) -> Source:
    """Return the frames of `source` in batches; those of a loader of `load_inference_source` as they are.

    Accepted: path of an image, video or folder; glob (`**` searches subfolders); .txt/.csv list of paths; .streams
    list of addresses; camera number; rtsp/http address; `screen` with a region; uint8 BGR array (H, W, 3); PIL image;
    float RGB tensor (B, 3, H, W) in 0..1; or a list of these. Raises DataError for others.
    """
    if isinstance(loaded := getattr(source, "source", None), Source):
        return loaded
    return Source(find_entries(source), batch, vid_stride, stream_buffer)


def read_ahead(items: Generator[T, None, None], ahead: int) -> Generator[T, None, None]:
    """Yield `items` in order while a thread makes up to `ahead` of them in advance.

    An exception of `items` is raised after the items before it. Closing this generator ends the thread.
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


def find_entries(source: Any, depth: int = 0) -> list[Entry]:
    """Return the entries of a source of any accepted kind, in order."""
    if isinstance(source, (list, tuple)) and source:
        if depth == MAX_DEPTH:
            raise DataError(f"source: lists within lists to a depth of {MAX_DEPTH}, expected a list of sources")
        return _join(find_entries(item, depth + 1) for item in source)
    if isinstance(source, np.ndarray):
        return [Entry("array", image) for image in (source if source.ndim == 4 else [source])]
    if isinstance(source, Image.Image):
        return [Entry("array", source)]
    if isinstance(source, torch.Tensor):
        return [Entry("tensor", image) for image in images.check_tensor(source)]
    if isinstance(source, int) and not isinstance(source, bool) and 0 <= source < 1 << 31:
        return [Entry("stream", source)]  # OpenCV does not survive others
    if isinstance(source, (str, Path)) and str(source).strip():
        return _text_entries(str(source).strip())
    expected = "a path, glob, camera number from 0, address, screen, array, PIL image, tensor or a list of these"
    raise DataError(f"source: got {str(source)[:100]} ({type(source).__name__}), expected {expected}")


def _text_entries(text: str, *, lists: bool = True) -> list[Entry]:
    if "\0" in text or len(text) > MAX_TEXT:
        raise DataError(f"source {text[:100]!r}: {len(text)} characters, expected a path of at most {MAX_TEXT}, no NUL")
    if re.fullmatch(r"[0-9]{1,9}", text) or is_screen(text):
        return [Entry("stream", int(text) if text.isdecimal() else text)]
    if "://" in text:
        try:
            address = urlparse(text)
        except ValueError as error:
            raise DataError(f"source {text}: is no address ({error})") from error
        return [Entry((address.scheme in ("http", "https") and _kind(address.path)) or "stream", text)]
    path = Path(os.path.expanduser(text))
    if os.path.isdir(path):
        return _group_entries(list_files(path, MEDIA_SUFFIXES, recursive=False), f"folder {path}")
    if os.path.isfile(path):
        if path.suffix.lower() not in LIST_SUFFIXES:
            return [Entry(_kind(path) or "image", path)]
        if lists:
            return _list_entries(path)
        raise DataError(f"source {path}: is a list within a list; join them to one")
    if os.path.lexists(path):
        raise DataError(f"source {path}: is a device, pipe or broken link, expected a file or folder")
    if any(mark in text for mark in "*?["):
        return _group_entries(_expand(path.parts), f"pattern {text}")
    if not os.path.isdir(path.parent):
        raise MissingFileError(f"source {text}: folder {path.parent} does not exist")
    raise MissingFileError(f"source {text}: does not exist{did_you_mean(path.name, os.listdir(path.parent))}")


def _expand(parts: Sequence[str]) -> list[Path]:
    """Return the files that match a pattern, given by its parts; `**` is any folders.

    Each real folder is searched once for each part, so links that form loops repeat no file.
    """
    *folders, last = (*parts, "*") if parts[-1] == "**" else parts
    found = [Path()]
    for part in folders:
        if part == "**":
            inner = [folder for start in found for folder, _ in walk(start)]
        else:
            inner = filter(os.path.isdir, chain.from_iterable(_glob(start, part) for start in found))
        found = list({os.path.realpath(folder): folder for folder in sorted(inner, reverse=True)}.values())
    return sorted(chain.from_iterable(_glob(folder, last) for folder in found))


def _glob(folder: Path, pattern: str) -> list[Path]:
    return [folder / name for name in glob.glob(pattern, root_dir=folder)]


def _kind(path: str | Path) -> Literal["image", "video"] | None:
    suffix = os.path.splitext(path)[1].lower()
    return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in images.IMAGE_SUFFIXES else None


def _group_entries(paths: list[Path], where: str) -> list[Entry]:
    """Return the images and videos of a folder or a pattern, without hidden files."""
    visible = [path for path in paths if not is_hidden(path.name) and os.path.isfile(path)]
    entries = [Entry(kind, path) for path in visible if (kind := _kind(path))]
    if not entries:
        found = counted(len(paths), "entry")
        raise MissingFileError(f"source {where}: {found}, no image or video among them; expected {ACCEPTED}")
    return entries


def _list_entries(path: Path) -> list[Entry]:
    """Return the entries of a list file: one path or address per row; `#` starts a comment.

    Of a .csv, the first column is read, or the only row.

    Relative paths refer to the working folder, then to the folder of the list. Invalid rows are skipped with a warning.
    """
    lines = read_text(path, DataError, guess=True).splitlines()
    try:
        rows = list(csv.reader(lines)) if path.suffix.lower() == ".csv" else [[line] for line in lines]
        rows = [[cell] for cell in rows[0]] if len(rows) == 1 else rows
        names = {number: row[0].strip() for number, row in enumerate(rows, 1) if row}
    except csv.Error as error:
        raise DataError(f"{path}: not a table ({error})") from error

    def read(number: int, name: str) -> list[Entry]:
        places = (name, path.parent / name, find_image(name, (path.parent,)))
        try:
            return _text_entries(str(next(filter(os.path.exists, places), name)), lists=False)
        except DataError as error:
            LOGGER.warning(f"{path}, line {number} skipped: {error}")
            return []

    entries = _join(read(number, name) for number, name in names.items() if name and not name.startswith("#"))
    if not entries:
        raise DataError(f"{path}: none of its rows is an image, video or stream")
    return entries


def _join(parts: Iterable[list[Entry]]) -> list[Entry]:
    entries: list[Entry] = []
    for part in parts:
        entries += part
        if len(entries) > MAX_ENTRIES:
            raise DataError(f"source: more than {MAX_ENTRIES:,} images, videos and streams; predict on parts of them")
    return entries


__getattr__ = public_names(__name__)
