"""Read and write files: text and JSON, write YAML, atomic writes, and the folders of runs."""

import codecs
import errno
import hashlib
import json
import locale
import os
import re
import secrets
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, BinaryIO

import yaml

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import MissingFileError, UserError
from ultralytics.utils.public import public_names
from ultralytics.utils.settings import SETTINGS

TEXT_LIMIT, JSON_LIMIT, SNIFF = 1 << 28, 1 << 33, 1 << 12  # bytes of a file, and of its start
UTF_16 = {  # starts of texts: a byte order mark, or `<` of XML
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be",
}  # fmt: skip
NAME_BYTES = 255  # of a file name on common file systems
SYSTEM_FOLDERS = ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found")
UNFINISHED = ".tmp"  # end of the names of files that are being written


@contextmanager
def atomic_write(path: str | Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` when the block succeeds; otherwise `path` is unchanged.

    Several processes may write it at once. With `shared`, for caches, it is not flushed to disk.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}{UNFINISHED}")  # short, as the name may have the full length
    try:
        with open(temporary, "xb") as file:
            yield file
            if not shared:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def lock_file(file: IO[str]) -> bool:
    """Lock a file without waiting; return False if another process has locked it. Child processes do not inherit it."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(1 << 20)  # a byte behind the content, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        LOGGER.warning(f"{file.name}: no lock ({error.strerror}): do not use its folder twice at once")
    return True


def real_path(path: str | Path) -> Path:
    """Return the absolute path, with `~` expanded and links followed; for names that no file can have, as given."""
    return Path(os.path.realpath(os.path.expanduser(str(path).replace("\0", "\\0"))))


def walk(root: str | Path, hidden: list[os.DirEntry] | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield every folder from `root` down with its sorted file names, without hidden ones and SYSTEM_FOLDERS.

    Those are appended to `hidden`. Links to folders are followed after the others, and each real folder is visited
    once, none above `root`: links that form loops end. A folder that cannot be read is a warning.
    """
    seen = {_identity(parent) for parent in Path(os.path.realpath(root)).parents}
    waiting, links = [Path(root)], []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        try:
            if (identity := _identity(folder)) in seen:
                continue
            with os.scandir(folder) as scan:
                listed = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            LOGGER.warning(f"{folder}: left out, the folder cannot be read ({error.strerror})")
            continue
        seen.add(identity)
        entries = [entry for entry in listed if not is_hidden(entry.name)]
        if hidden is not None:
            hidden += [entry for entry in listed if is_hidden(entry.name)]
        folders = [e for e in entries if (os.path.isdir(e) if e.is_symlink() else e.is_dir())]
        links += [Path(entry) for entry in folders if entry.is_symlink()]
        waiting += [Path(entry) for entry in reversed(folders) if not entry.is_symlink()]
        inner = {entry.name for entry in folders}
        yield folder, [entry.name for entry in entries if entry.name not in inner]


def is_hidden(name: str) -> bool:
    """Check for a hidden file or folder, or a folder of thumbnails, deleted or recovered files of a system."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def list_files(
    root: str | Path, suffixes: tuple[str, ...], *, recursive: bool = True, hidden: list[os.DirEntry] | None = None
) -> list[Path]:
    """Return the files of `walk` with one of the suffixes, in any case."""
    found = []
    for folder, names in walk(root, hidden):
        found += [folder / name for name in names if name.lower().endswith(suffixes)]
        if not recursive:
            break
    return found


def read_bytes(path: str | Path, error: type[UserError], limit: int, *, text: bool = False) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; with `text`, refuse binary data early."""
    try:
        status = os.stat(path)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # reading a pipe or device has no end
            raise error(f"{path}: is a device or a pipe, expected a file")
        with open(path, "rb") as file:
            data = file.read(SNIFF)
            if text and data.count(0) > len(data) // 4 and not data.startswith(tuple(UTF_16)):
                raise error(f"{path}: not UTF-8 text, but binary data; expected a text file")
            data += b"" if status.st_size > limit else file.read(limit)
    except OSError as cause:
        gone = isinstance(cause, FileNotFoundError) and issubclass(MissingFileError, error)
        raise (MissingFileError if gone else error)(f"{path}: {(cause.strerror or str(cause)).lower()}") from cause
    except ValueError as cause:  # a NUL character in the path
        if isinstance(cause, UserError):
            raise
        raise error(f"{str(path)!r}: {cause}") from cause
    if max(status.st_size, len(data)) > limit:
        raise error(f"{path}: {max(status.st_size, len(data)):,} bytes, expected at most {limit:,}")
    return data


def read_text(
    path: str | Path, error: type[UserError] = UserError, *, guess: bool = False, limit: int = TEXT_LIMIT
) -> str:
    """Return the content of a UTF-8 file (or UTF-16 with a byte order mark), with line ends \\n; else raise `error`.

    `guess`, for lists and labels, also tries the encoding of an XML declaration, that of the system, and GB18030.
    """
    text = _decode(read_bytes(path, error, limit, text=True), path, error, guess)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(data: bytes, path: str | Path, error: type[UserError], guess: bool) -> str:
    marked = next((name for start, name in UTF_16.items() if data.startswith(start)), "utf-8-sig")
    declared = re.match(rb"\s*<\?xml[^>]{1,200}?encoding=[\"']([\w.:-]+)", data) if guess else None
    known = [*([declared[1].decode()] if declared and marked == "utf-8-sig" else []), marked]
    for encoding in (*known, *((locale.getpreferredencoding(False), "gb18030") if guess else ())):
        try:
            text = data.decode(encoding)
        except (UnicodeError, LookupError):
            continue
        if encoding not in known:
            if "\0" in text:
                break
            if next(_first_of(Path(path).parent, encoding), False):
                hint = "if its names are wrong, save it and the others of its folder as UTF-8"
                LOGGER.warning(f"{path}: not UTF-8 text, read as {encoding}; {hint}")
        return text
    raise error(f"{path}: not UTF-8 text; save the file as UTF-8")


@cache
def _first_of(folder: Path, encoding: str) -> Iterator[bool]:
    """Return an iterator of one value, which is for the first file of a folder in an encoding."""
    return iter([True])


def read_json(path: str | Path, error: type[UserError] = UserError) -> object:
    """Return the value in a JSON file; raise `error` with file and line if it cannot be read."""
    return parse_json(_decode(read_bytes(path, error, JSON_LIMIT, text=True), path, error, True), str(path), error)


def parse_json(text: str | bytes, where: str, error: type[UserError] = UserError) -> object:
    """Return the value of a JSON text; raise `error`, starting with `where`, if it is not valid."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as cause:
        raise error(f"{where}, line {cause.lineno}: not valid JSON: {cause.msg} (column {cause.colno})") from cause
    except (RecursionError, ValueError) as cause:  # ValueError: bytes that are no text, thousands of digits
        raise error(f"{where}: not valid JSON: {first_line(cause)}") from cause


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 file atomically, create its folder, and return the path."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))  # names may not be UTF-8
    return file


def write_yaml(path: str | Path, data: Mapping) -> Path:
    """Write plain data as YAML atomically, in the order of its keys, and return the path."""
    return write_text(path, yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True))


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def safe_name(text: str, suffix: str = "") -> str:
    """Return a file name: `text` without characters that are not allowed, and `suffix`; see `short_name`."""
    name = "".join("_" if c in '<>:"/\\|?*' or ord(c) < 32 else c for c in text).strip(". ") or "_"
    return short_name(name, suffix)


def short_name(stem: str, suffix: str = "") -> str:
    """Return `stem` + `suffix`; a name that is too long for file systems is cut and gets a digest of the stem.

    Examples:
        >>> short_name("a", ".txt"), len(short_name("a" * 300, "_1.jpg"))
        ('a.txt', 255)
    """
    raw, room = os.fsencode(stem), NAME_BYTES - len(os.fsencode(suffix))
    if len(raw) <= room:
        return stem + suffix
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return f"{raw[: room - 9].decode(errors='ignore')}-{digest}{suffix}"


def increment_path(path: str | Path, exist_ok: bool = False, sep: str = "", mkdir: bool = False) -> Path:
    """Return `path` if it does not exist, else with the next number after `sep`: train, train2, train3.

    The number is one above the highest in the folder, so the newest run has the highest. Files keep their suffix.
    Nothing is created without `mkdir`.

    Examples:
        >>> Path("train").mkdir(), Path("train7").mkdir(), Path("crop.jpg").touch()
        (None, None, None)
        >>> [str(increment_path(name)) for name in ("train", "crop.jpg", "val")]
        ['train8', 'crop2.jpg', 'val']
    """
    path = Path(path)
    if not exist_ok and os.path.exists(path):
        path = _next_path(path, sep)
    if mkdir:
        path.mkdir(parents=True, exist_ok=True)
    return path


def _next_path(path: Path, sep: str) -> Path:
    stem, suffix = (path.stem, path.suffix) if path.is_file() else (path.name, "")
    pattern = re.compile(re.escape(stem + sep) + r"(\d+)" + re.escape(suffix))
    numbers = [int(match[1]) for entry in path.parent.iterdir() if (match := pattern.fullmatch(entry.name))]
    return path.with_name(f"{stem}{sep}{max([1, *numbers]) + 1}{suffix}")


def runs_folder() -> Path:
    """Return the folder of runs without a `project`: runs/detect, or in `settings["runs_dir"]`."""
    return Path(SETTINGS["runs_dir"], "detect")


def run_dir(project: str | Path | None, name: str, *, exist_ok: bool = False) -> Path:
    """Create and return the run folder `project/name` (default: runs/detect); number it if it exists."""
    wanted = Path(project or runs_folder()) / name
    try:
        folder = increment_path(wanted, exist_ok=exist_ok)
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError as error:
        if folder.is_dir():  # another run, started at the same time, has created it
            return run_dir(project, name, exist_ok=exist_ok)
        raise UserError(f"{folder}: is a file; expected a folder. Choose another project= or name=") from error
    except (OSError, ValueError, RecursionError) as error:  # name too long, read-only, a NUL character, too deep
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{repr(str(wanted))[:300]}: cannot create the run folder ({reason}). Choose another project= or name="
        ) from error
    return folder


def resumed_weights(resume: bool | str, project: str | None = None) -> str | None:
    """Return the weights that `resume=` names by file or run folder; for True those of the newest run in `project`."""
    if isinstance(resume, str):
        parts = ("last.pt",) if Path(resume).absolute().name == "weights" else ("weights", "last.pt")
        return str(Path(resume, *parts)) if os.path.isdir(resume) else resume
    found = Path(project or runs_folder()).glob("*/weights/*.pt") if resume else ()
    runs = [file for file in found if os.path.isfile(file) and not file.parts[-3].startswith(".")]
    newest = max(runs, key=lambda file: file.stat().st_mtime, default=None)
    return newest and str(newest.with_name("last.pt"))  # if it is missing, an older checkpoint is used


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class if there is none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def git(folder: str | Path, *words: str) -> str | None:
    """Return what the program git prints of a folder; None without it, and outside of a repository."""
    with suppress(OSError, subprocess.SubprocessError, UnicodeError):
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    return None


__getattr__ = public_names(__name__)
