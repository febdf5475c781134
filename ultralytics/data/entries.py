"""What a source consists of: files, list rows, archives, streams, arrays and tensors, in their order."""

from __future__ import annotations

import csv
import glob
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import torch
from PIL import Image

from ultralytics.data.archives import ARCHIVE_SUFFIXES, open_archive
from ultralytics.data.arrays import check_tensor
from ultralytics.data.images import IMAGE_SUFFIXES, is_image
from ultralytics.data.piped import STDIN, read_piped
from ultralytics.data.screen import parse_screen
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, did_you_mean

VIDEO_SUFFIXES = (".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
LIST_SUFFIXES = (".csv", ".streams", ".txt")
ACCEPTED = f"images {' '.join(sorted(IMAGE_SUFFIXES))}, videos {' '.join(VIDEO_SUFFIXES)}"
HEAD_BYTES = 1 << 16  # enough for Pillow to know a file by its beginning


@dataclass(frozen=True)
class Entry:
    """One thing a source consists of; `encoded` is an image file's bytes."""

    kind: Literal["image", "video", "stream", "archive", "array", "tensor", "encoded"]
    value: Any

    @property
    def count(self) -> int:
        """How many files it stands for."""
        return len(self.value.members) if self.kind == "archive" else 1


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
        text = str(source).strip()
        return _entries_of_stdin() if text == STDIN else _entries_of_text(text)
    expected = "a path, glob, camera number, address, screen, -, array, PIL image, tensor or a list of these"
    raise DataError(f"source: got {source!r} ({type(source).__name__}), expected {expected}")


def _entries_of_text(text: str, inside: tuple[Path, ...] = ()) -> list[Entry]:
    if text.isdecimal():
        return [Entry("stream", int(text))]
    if region := parse_screen(text):
        return [Entry("stream", region)]
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
    if path.suffix.lower() in ARCHIVE_SUFFIXES:
        return [Entry("archive", open_archive(path))]
    kind = _kind(path)
    if kind is None:
        with path.open("rb") as file:
            kind = "image" if is_image(file.read(HEAD_BYTES)) else None
    if kind is None:
        raise DataError(
            f"source {path}: unknown file type {path.suffix!r}; expected {ACCEPTED}, a .zip, or a list .txt .csv"
        )
    return [Entry(kind, path)]


def _entries_of_files(paths: list[Path], where: str) -> list[Entry]:
    """Entries of what a folder or a pattern holds; archives only where the pattern asks for them."""
    entries, archives = [], 0
    for path in paths:
        if path.name.startswith(".") or not path.is_file():
            continue
        if kind := _kind(path):
            entries.append(Entry(kind, path))
        elif path.suffix.lower() in ARCHIVE_SUFFIXES and where.endswith(path.suffix):
            archives += 1
            try:
                entries.append(Entry("archive", open_archive(path)))
            except DataError as error:
                LOGGER.warning(f"skipped: {error}")
    if not entries:
        found = f"{archives} archives, none of them usable" if archives else f"{len(paths)} entries, no image or video"
        raise DataError(f"source {where}: {found}{'' if archives else ' among them'}; expected {ACCEPTED}")
    return entries


def _entries_of_stdin() -> list[Entry]:
    piped = read_piped()
    if isinstance(piped, bytes):
        return [Entry("encoded", piped)]
    rows = [(number, name) for number, name in enumerate(piped, 1) if name]
    return _entries_of_rows(rows, "source -", Path(), ())


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
    """Text in UTF-8, or in UTF-16 as PowerShell redirects it, with any line ends."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"source {path}: not text in UTF-8 ({error.reason} at byte {error.start})") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


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
