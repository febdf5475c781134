"""Sources of prediction, turned into batches of frames that are read ahead of the network."""

from __future__ import annotations

import csv
import glob
import io
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from ultralytics.data.images import DAMAGED, IMAGE_SUFFIXES, decode_image, is_image, pillow_to_bgr, read_image
from ultralytics.data.streams import (
    Frame,
    gif_frames,
    is_gif,
    is_screen,
    live_batches,
    public_address,
    video_frames,
)
from ultralytics.utils import LOGGER
from ultralytics.utils.downloads import fetch
from ultralytics.utils.errors import DataError, UserError, did_you_mean

T = TypeVar("T")
END = object()


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


def to_bgr(image: np.ndarray | Image.Image) -> np.ndarray:
    """uint8 BGR (H, W, 3) of a PIL image, or of a uint8 array: grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4)."""
    if isinstance(image, Image.Image):
        try:
            return pillow_to_bgr(ImageOps.exif_transpose(image))  # reads the file only now
        except DAMAGED as error:
            raise DataError(f"source: PIL image {getattr(image, 'filename', '')}: {error}") from error
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise DataError(
            f"source: got an array of {image.dtype} {image.shape}, expected uint8 (H, W, 3) in BGR order; "
            "convert it, or give float RGB in 0..1 as a torch tensor (B, 3, H, W)"
        )
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        return np.ascontiguousarray(image)
    if channels not in (1, 4):
        raise DataError(f"source: got an array {image.shape} with {channels} channels, expected 1, 3 or 4 (H, W, C)")
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)


def check_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as (B, 3, H, W); DataError unless it is float RGB in 0..1."""
    images = tensor[None] if tensor.ndim == 3 else tensor
    expected = "float RGB (B, 3, H, W) in 0..1"
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or images.numel() == 0:
        raise DataError(f"source: got a tensor of {tensor.dtype} {tuple(tensor.shape)}, expected {expected}")
    low, high = (float(v) for v in images.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # false for NaN too
        raise DataError(f"source: got a tensor with values {low:.4g} to {high:.4g}, expected {expected}")
    return images


def tensor_to_image(tensor: torch.Tensor) -> np.ndarray:
    """uint8 BGR (H, W, 3) of a float RGB tensor (3, H, W) in 0..1."""
    rgb = (tensor.detach().float().clamp(0, 1) * 255).round().byte()
    return np.ascontiguousarray(rgb.permute(1, 2, 0).flip(-1).cpu().numpy())


VIDEO_SUFFIXES = (".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
LIST_SUFFIXES = (".csv", ".streams", ".txt")
ACCEPTED = f"images {' '.join(sorted(IMAGE_SUFFIXES))}, videos {' '.join(VIDEO_SUFFIXES)}"
HEAD_BYTES = 1 << 16  # enough for Pillow to know a file by its beginning


@dataclass(frozen=True)
class Entry:
    """One thing a source consists of."""

    kind: Literal["image", "video", "stream", "array", "tensor"]
    value: Any


def find_entries(source: Any) -> list[Entry]:
    """Entries of a source of any accepted kind, in order."""
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
        return _entries_of_text(str(source).strip())
    expected = "a path, glob, camera number, address, screen, array, PIL image, tensor or a list of these"
    raise DataError(f"source: got {source!r} ({type(source).__name__}), expected {expected}")


def _entries_of_text(text: str, inside: tuple[Path, ...] = ()) -> list[Entry]:
    if text.isdecimal():
        return [Entry("stream", int(text))]
    if is_screen(text):
        return [Entry("stream", text)]
    if text.lower().startswith("file://"):
        text = url2pathname(urlparse(text).path)
    if "://" in text:
        address = urlparse(text)
        kind = _kind(address.path) if address.scheme in ("http", "https") else None
        return [Entry(kind or "stream", text)]
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            return _entries_of_files(sorted(path.iterdir()), f"folder {path}")
        if path.is_file():
            return _entries_of_file(path, inside)
    except OSError as error:  # a name that is too long, a folder without the right to look into it
        raise DataError(f"source {text[:200]}: cannot be read ({error.strerror})") from error
    if any(mark in text for mark in "*?["):
        return _entries_of_files(sorted(map(Path, glob.glob(str(path), recursive=True))), f"pattern {text}")
    if not path.parent.is_dir():
        raise DataError(f"source {text}: folder {path.parent} does not exist")
    raise DataError(f"source {text}: does not exist{did_you_mean(path.name, (p.name for p in path.parent.iterdir()))}")


def _kind(path: str | Path) -> Literal["image", "video"] | None:
    suffix = Path(path).suffix.lower()
    return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None


def _entries_of_file(path: Path, inside: tuple[Path, ...]) -> list[Entry]:
    """Entries of one file that was asked for by name: where the suffix says nothing, its beginning may."""
    if path.suffix.lower() in LIST_SUFFIXES:
        return _entries_of_list(path, inside)
    kind = _kind(path)
    if kind is None:
        with path.open("rb") as file:
            kind = "image" if is_image(file.read(HEAD_BYTES)) else None
    if kind is None:
        raise DataError(f"source {path}: unknown file type {path.suffix!r}; expected {ACCEPTED}, or a list .txt .csv")
    return [Entry(kind, path)]


def _entries_of_files(paths: list[Path], where: str) -> list[Entry]:
    """Return the images and videos among the files of a folder or a pattern."""
    visible = [path for path in paths if not path.name.startswith(".") and path.is_file()]
    entries = [Entry(kind, path) for path in visible if (kind := _kind(path))]
    if not entries:
        raise DataError(f"source {where}: {len(paths)} entries, no image or video among them; expected {ACCEPTED}")
    return entries


def _entries_of_list(path: Path, inside: tuple[Path, ...]) -> list[Entry]:
    """Entries of a list file: one path or address a row (.csv: first column); `#` starts a comment.

    Relative paths are looked up from the working folder, then from the folder of the list. A row that leads nowhere is
    reported and skipped.
    """
    if path.resolve() in inside:
        raise DataError(f"source {path}: the list names itself, or another list that names it")
    text = _read_text(path)
    is_table = path.suffix.lower() == ".csv"
    try:
        rows = csv.reader(io.StringIO(text)) if is_table else ([line] for line in text.split("\n"))
        names = [(number, row[0].strip()) for number, row in enumerate(rows, 1) if row and row[0].strip()]
    except csv.Error as error:
        raise DataError(f"source {path}: not a readable table ({error})") from error
    return _entries_of_rows(names, str(path), path.parent, (*inside, path.resolve()))


def _read_text(path: Path) -> str:
    """Return the UTF-8 text of a list file. Raises DataError for other encodings."""
    try:
        return path.read_text(encoding="utf-8-sig")  # universal newlines
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        raise DataError(f"source {path}: not text in UTF-8 ({reason}); save the list as UTF-8") from error


def _entries_of_rows(rows: list[tuple[int, str]], where: str, folder: Path, inside: tuple[Path, ...]) -> list[Entry]:
    """Entries of (number, name) rows beside `folder`; `inside` are the lists they stand in, the innermost last."""
    entries = []
    for number, name in rows:
        if name.startswith("#"):
            continue
        beside = folder / name
        try:
            text = str(beside) if beside.exists() and not Path(name).exists() else name
            entries += _entries_of_text(text, inside)
        except OSError as error:
            LOGGER.warning(f"{where}, line {number} skipped: {name[:200]} ({error.strerror})")
        except DataError as error:
            LOGGER.warning(f"{where}, line {number} skipped: {error}")
    if not entries:
        raise DataError(f"{where}: none of its {len(rows)} rows names an image, video or stream")
    return entries


AHEAD = 4  # frames decoded and waiting; with larger batches a whole one
ADDRESS_LIMIT = 1 << 29  # bytes of one picture behind an address


class Source:
    """Iterable over batches of frames; every loop over it starts anew. `endless` where it has live streams.

    Files are decoded in a thread, at most `ahead` frames (but a whole batch) before the caller asks for them; closing
    the iterator ends it. With `ahead=0` the caller waits for each frame.
    """

    def __init__(
        self,
        entries: list[Entry],
        *,
        batch: int = 1,
        vid_stride: int = 1,
        stream_buffer: bool = False,
        ahead: int = AHEAD,
    ) -> None:
        self.entries, self.batch, self.ahead = entries, batch, ahead
        self.vid_stride, self.stream_buffer = vid_stride, stream_buffer
        live = [e.value for e in entries if e.kind == "stream"]
        if live and len(live) < len(entries):
            raise DataError(
                f"source: {len(live)} live streams together with {len(entries) - len(live)} files or images; "
                "streams never end, so give them on their own"
            )
        self.endless = bool(live)

    def __len__(self) -> int:
        """Return the number of files, images and streams; a video counts once."""
        return len(self.entries)

    def __iter__(self) -> Iterator[list[Frame]]:
        if self.endless:
            addresses = [entry.value for entry in self.entries]
            return live_batches(addresses, vid_stride=self.vid_stride, keep_all=self.stream_buffer)
        frames = self._frames()
        if self.ahead and any(entry.kind not in ("array", "tensor") for entry in self.entries):  # nothing to decode
            frames = read_ahead(frames, max(self.ahead, self.batch))
        return batches(frames, self.batch)

    def _frames(self) -> Generator[Frame, None, None]:
        total = len(self)
        for position, entry in enumerate(self.entries, 1):
            if entry.kind in ("array", "tensor"):
                yield _memory_frame(entry, position, total)
            else:
                yield from _reported(self._file_frames(entry, f"{position}/{total}"), f"{position}/{total}")

    def _file_frames(self, entry: Entry, where: str) -> Iterator[Frame]:
        name = public_address(entry.value)
        if "://" in str(entry.value) and (entry.kind == "image" or is_gif(name)):
            yield from _decoded(name, fetch(str(entry.value), ADDRESS_LIMIT), where, self.vid_stride)
        elif is_gif(name):
            yield from gif_frames(entry.value, name, where, self.vid_stride)
        elif entry.kind == "video":
            yield from video_frames(entry.value, where, self.vid_stride)
        else:
            yield Frame(read_image(entry.value), name, f"image {where} {name}")


def load_source(
    source: Any, *, batch: int = 1, vid_stride: int = 1, stream_buffer: bool = False, ahead: int = AHEAD
) -> Source:
    """Return the frames of `source` in batches.

    Accepted: path of an image, video or folder; glob (`**` looks into subfolders); .txt/.csv list of paths; .streams
    list of addresses; camera number; rtsp/http address; `screen` with a region; uint8 BGR array (H, W, 3); PIL image;
    float RGB tensor (B, 3, H, W) in 0..1; or a list of these. DataError where it is missing, empty or none of them.
    """
    entries = find_entries(source)
    return Source(entries, batch=batch, vid_stride=vid_stride, stream_buffer=stream_buffer, ahead=ahead)


def batches(frames: Generator[Frame, None, None], size: int) -> Iterator[list[Frame]]:
    """Groups of up to `size` frames; prepared tensors only with tensors of their own shape, as they are stacked.

    A full group is given at once, without a look at the frame after it. Closing this closes `frames`.
    """
    group: list[Frame] = []
    try:
        for frame in frames:
            if group and _tensor_shape(group[0]) != _tensor_shape(frame):
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


def _tensor_shape(frame: Frame) -> torch.Size | None:
    return None if frame.tensor is None else frame.tensor.shape


def _memory_frame(entry: Entry, position: int, total: int) -> Frame:
    unnamed = f"image{position - 1}.jpg"
    if entry.kind == "tensor":
        image = tensor_to_image(entry.value)
        return Frame(image, unnamed, f"image {position}/{total} {unnamed}", tensor=entry.value)
    name = getattr(entry.value, "filename", "") or unnamed
    return Frame(to_bgr(entry.value), name, f"image {position}/{total} {name}")


def _decoded(name: str, data: bytes, where: str, vid_stride: int) -> Iterator[Frame]:
    """Frames of an encoded picture in memory: one, or those of a GIF."""
    if data[:4] == b"GIF8":
        yield from gif_frames(data, name, where, vid_stride)
    else:
        yield Frame(decode_image(name, data), name, f"image {where} {name}")


def _reported(frames: Iterable[Frame], where: str) -> Iterator[Frame]:
    """The frames of one file; where it cannot be read, a line in the log instead, so that the next file follows."""
    try:
        yield from frames
    except UserError as error:
        LOGGER.warning(f"image {where} skipped: {error}")
