"""Pictures inside zip archives, read one at a time and never unpacked to the disk."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ultralytics.data.images import IMAGE_SUFFIXES
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError

ARCHIVE_SUFFIXES = (".zip",)
MEMBER_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
MEMBER_LIMIT = 1 << 29  # bytes of one picture, unpacked: 179 million pixels without compression
BOMB_RATIO = 1100  # deflate reaches 1032; more means that members share their bytes
BOMB_BYTES = 1 << 30  # small archives may have any ratio
ENCRYPTED = 0x1
UTF8_NAME = 0x800
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError)


@dataclass(frozen=True)
class Archive:
    """A zip file and its pictures, sorted by name."""

    path: Path
    members: tuple[tuple[str, zipfile.ZipInfo], ...]


def open_archive(path: Path) -> Archive:
    """Look into an archive. DataError where it is damaged, a bomb, or without pictures.

    Archives inside are not entered and videos are not read from archives: both are reported.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            infos = [info for info in packed.infolist() if not info.is_dir()]
    except DAMAGED as error:
        raise DataError(f"source {path}: not a readable zip archive ({error}); pack it again") from error
    named = sorted(((member_name(info), info) for info in infos), key=lambda pair: pair[0])
    members = tuple((name, info) for name, info in named if _is_picture(name))
    size, unpacked = path.stat().st_size, sum(info.file_size for _, info in members)
    if unpacked > max(BOMB_BYTES, BOMB_RATIO * size):
        raise DataError(
            f"source {path}: {size} bytes that claim to hold {unpacked / 1e9:.1f} GB of pictures; a zip bomb, not read"
        )
    inner = [name for name, _ in named if Path(name).suffix.lower() in (".zip", ".tar", ".gz", ".7z", ".rar")]
    if inner:
        LOGGER.warning(f"{path}: {len(inner)} archives inside are not entered ({inner[0]}); unpack them")
    if not members:
        raise DataError(f"source {path}: {len(infos)} files, no image among them; unpack it if it holds videos")
    return Archive(path, members)


def member_name(info: zipfile.ZipInfo) -> str:
    """Name with forward slashes; UTF-8 names that are not marked as such are understood."""
    name = info.filename
    if not info.flag_bits & UTF8_NAME and not name.isascii():
        try:
            name = name.encode("cp437").decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            name = info.filename
    return name.replace("\\", "/").lstrip("/")


def archive_pictures(archive: Archive) -> Iterator[tuple[str, bytes | DataError]]:
    """(name, encoded picture, or why there is none) of every member; memory holds one of them."""
    with zipfile.ZipFile(archive.path) as packed:
        for name, info in archive.members:
            try:
                data: bytes | DataError = _read_member(packed, f"{archive.path}/{name}", info)
            except DataError as error:
                data = error
            yield name, data


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return path.suffix.lower() in MEMBER_SUFFIXES and not hidden


def _read_member(packed: zipfile.ZipFile, where: str, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & ENCRYPTED:
        raise DataError(f"{where}: is encrypted; unpack the archive with its password")
    if info.file_size > MEMBER_LIMIT:
        raise DataError(f"{where}: claims {info.file_size / 1e6:.0f} MB, at most {MEMBER_LIMIT / 1e6:.0f} MB are read")
    # zipfile unpacks all that a chunk of bzip2 or lzma holds at once, so that only small chunks are bounded.
    bounded = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    chunk, parts, size = 1 << 20 if bounded else 1 << 12, [], 0
    try:
        with packed.open(info) as member:
            while part := member.read(chunk):
                parts.append(part)
                size += len(part)
                if size > MEMBER_LIMIT:  # the header lied
                    raise DataError(f"{where}: more than {MEMBER_LIMIT / 1e6:.0f} MB, at most these are read")
    except DataError:
        raise
    except NotImplementedError as error:  # a compression that Python's zipfile does not have
        raise DataError(f"{where}: {error}; pack the archive with deflate") from error
    except (*DAMAGED, RuntimeError) as error:
        raise DataError(f"{where}: damaged in the archive ({error}); pack it again") from error
    return b"".join(parts)
