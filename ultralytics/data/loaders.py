"""Sources of prediction: files, folders, lists, videos, cameras, arrays and tensors, all turned into frames."""

from __future__ import annotations

import csv
import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from ultralytics.data.images import IMAGE_SUFFIXES, pillow_to_bgr, read_image
from ultralytics.data.streams import Frame, frame_rate, live_batches, public_address
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, did_you_mean

VIDEO_SUFFIXES = (".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
LIST_SUFFIXES = (".csv", ".streams", ".txt")
ACCEPTED = f"images {' '.join(sorted(IMAGE_SUFFIXES))}, videos {' '.join(VIDEO_SUFFIXES)}"
FAILED_GRABS = 3  # in a row, before a video counts as ended: one broken packet is not the end


@dataclass(frozen=True)
class Entry:
    """One thing a source consists of."""

    kind: Literal["image", "video", "stream", "array", "tensor"]
    value: Any


class Source:
    """Iterable over batches of frames; every loop over it starts anew. `endless` where it has live streams."""

    def __init__(self, entries: list[Entry], *, batch: int = 1, vid_stride: int = 1, stream_buffer: bool = False):
        self.entries, self.batch = entries, batch
        self.vid_stride, self.stream_buffer = vid_stride, stream_buffer
        live = [e.value for e in entries if e.kind == "stream"]
        if live and len(live) < len(entries):
            raise DataError(
                f"source: {len(live)} live streams together with {len(entries) - len(live)} files or images; "
                "streams never end, so give them on their own"
            )
        self.endless = bool(live)

    def __len__(self) -> int:
        """Number of files, pictures and streams (a video counts once)."""
        return len(self.entries)

    def __iter__(self) -> Iterator[list[Frame]]:
        if self.endless:
            addresses = [entry.value for entry in self.entries]
            return live_batches(addresses, vid_stride=self.vid_stride, keep_all=self.stream_buffer)
        return batches(self._frames(), self.batch)

    def _frames(self) -> Iterator[Frame]:
        total = len(self.entries)
        for position, entry in enumerate(self.entries, 1):
            where, unnamed = f"{position}/{total}", f"image{position - 1}.jpg"
            if entry.kind == "tensor":
                image = tensor_to_image(entry.value)
                yield Frame(image, unnamed, f"image {where} {unnamed}", tensor=entry.value)
            elif entry.kind == "array":
                name = getattr(entry.value, "filename", "") or unnamed
                yield Frame(to_bgr(entry.value), name, f"image {where} {name}")
            elif entry.kind == "video" or "://" in str(entry.value):
                yield from video_frames(entry, where, self.vid_stride)
            else:
                try:
                    image = read_image(entry.value)
                except DataError as error:
                    LOGGER.warning(f"image {where} skipped: {error}")
                    continue
                yield Frame(image, str(entry.value), f"image {where} {entry.value}")


def load_source(source: Any, *, batch: int = 1, vid_stride: int = 1, stream_buffer: bool = False) -> Source:
    """Find out what `source` is.

    Accepted: path of an image, video or folder; glob (`**` looks into subfolders); .txt/.csv list of paths; .streams
    list of addresses; camera number; rtsp/http address; uint8 BGR array (H, W, 3); PIL image; float RGB tensor
    (B, 3, H, W) in 0..1; or a list of these. DataError where it is missing, empty or none of them.
    """
    return Source(find_entries(source), batch=batch, vid_stride=vid_stride, stream_buffer=stream_buffer)


def batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Groups of up to `size` frames; prepared tensors only with tensors of their own shape, as they are stacked."""
    group: list[Frame] = []
    for frame in frames:
        if group and (len(group) == size or _tensor_shape(group[0]) != _tensor_shape(frame)):
            yield group
            group = []
        group.append(frame)
    if group:
        yield group


def _tensor_shape(frame: Frame) -> torch.Size | None:
    return None if frame.tensor is None else frame.tensor.shape


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
        return [Entry("tensor", image) for image in _check_tensor(source)]
    if isinstance(source, int) and not isinstance(source, bool):
        return [Entry("stream", source)]
    if isinstance(source, (str, Path)) and str(source).strip():
        return _entries_of_text(str(source).strip())
    expected = "a path, glob, camera number, address, array, PIL image, tensor or a list of these"
    raise DataError(f"source: got {source!r} ({type(source).__name__}), expected {expected}")


def _entries_of_text(text: str) -> list[Entry]:
    if text.isdigit():
        return [Entry("stream", int(text))]
    if "://" in text:
        address = urlparse(text)
        kind = _kind(address.path) if address.scheme in ("http", "https") else None
        return [Entry(kind or "stream", text)]
    path = Path(text).expanduser()
    if path.is_dir():
        return _entries_of_files(sorted(path.iterdir()), f"folder {path}")
    if path.is_file():
        if path.suffix.lower() in LIST_SUFFIXES:
            return _entries_of_list(path)
        if kind := _kind(path):
            return [Entry(kind, path)]
        raise DataError(f"source {path}: unknown file type {path.suffix!r}; expected {ACCEPTED}, or a list .txt .csv")
    if any(mark in text for mark in "*?["):
        return _entries_of_files(sorted(map(Path, glob.glob(str(path), recursive=True))), f"pattern {text}")
    if not path.parent.is_dir():
        raise DataError(f"source {text}: folder {path.parent} does not exist")
    raise DataError(f"source {text}: does not exist{did_you_mean(path.name, (p.name for p in path.parent.iterdir()))}")


def _kind(path: str | Path) -> Literal["image", "video"] | None:
    suffix = Path(path).suffix.lower()
    return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None


def _entries_of_files(paths: list[Path], where: str) -> list[Entry]:
    entries = [Entry(_kind(p), p) for p in paths if _kind(p) and not p.name.startswith(".") and p.is_file()]
    if not entries:
        raise DataError(f"source {where}: {len(paths)} entries, no image or video among them; expected {ACCEPTED}")
    return entries


def _entries_of_list(path: Path) -> list[Entry]:
    """Entries of a list file: one path or address a row (.csv: first column); `#` starts a comment.

    Relative paths are looked up from the working folder, then from the folder of the list. A row that leads nowhere is
    reported and skipped.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file) if path.suffix.lower() == ".csv" else ([line.strip()] for line in file)
        names = [(number, row[0].strip()) for number, row in enumerate(rows, 1) if row and row[0].strip()]
    entries = []
    for number, name in names:
        if name.startswith("#"):
            continue
        beside = path.parent / name
        try:
            entries += _entries_of_text(str(beside) if not Path(name).exists() and beside.exists() else name)
        except DataError as error:
            LOGGER.warning(f"{path}, line {number} skipped: {error}")
    if not entries:
        raise DataError(f"source {path}: none of its {len(names)} rows names an image, video or stream")
    return entries


def video_frames(entry: Entry, where: str, vid_stride: int = 1) -> Iterator[Frame]:
    """Every `vid_stride`-th frame of a video file, or of a picture or video behind an http address."""
    name = public_address(entry.value)
    capture = cv2.VideoCapture(str(entry.value))
    total, fps = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))), frame_rate(capture)
    done = failed = 0
    try:
        while failed < FAILED_GRABS:
            if not capture.grab():
                failed += 1
                continue
            done, failed = done + 1, 0
            if (done - 1) % vid_stride:
                continue
            decoded, image = capture.retrieve()
            if not decoded:
                LOGGER.warning(f"video {where} {name}: frame {done} is broken, skipped")
                continue
            of = f" (frame {done}/{total or '?'})" if entry.kind == "video" else ""
            yield Frame(image, name, f"{entry.kind} {where}{of} {name}", entry.kind, done, fps / vid_stride)
    finally:
        capture.release()
    if not done:
        LOGGER.warning(f"{entry.kind} {where} skipped: {name} cannot be opened or has no frame that can be read")
    elif done < total:
        LOGGER.warning(f"{entry.kind} {where} {name}: ended after {done} of {total} frames")


def to_bgr(image: np.ndarray | Image.Image) -> np.ndarray:
    """uint8 BGR (H, W, 3) of a PIL image, or of a uint8 array: grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4)."""
    if isinstance(image, Image.Image):
        try:
            return pillow_to_bgr(ImageOps.exif_transpose(image))  # reads the file only now
        except (OSError, SyntaxError, ValueError) as error:
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


def _check_tensor(tensor: torch.Tensor) -> torch.Tensor:
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
