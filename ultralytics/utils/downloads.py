"""Network access of the package: only for missing data sets or weights, and images behind an address."""

import lzma
import os
import shutil
import struct
import tarfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from tqdm.auto import tqdm

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import first_line, lock_file, size_of
from ultralytics.utils.public import public_names
from ultralytics.utils.settings import SETTINGS

TIMEOUT = 30  # seconds without an answer
CHUNK = 1 << 20
DOWNLOAD_LIMIT = 1 << 36  # bytes of one file
UNPACKED_LIMIT, MAX_RATIO = 1 << 28, 50  # bytes in an archive, or in one byte of it if that is more
ATTEMPTS = 10  # of one download, each after one that brought bytes
NETWORK_ERRORS = (  # also of addresses and headers that the standard library cannot parse
    OSError, HTTPException, ValueError, LookupError, OverflowError,
)  # fmt: skip
ARCHIVE_ERRORS = (  # also unsupported versions and compressions, passwords, and damaged streams
    OSError, zipfile.BadZipFile, tarfile.TarError, RuntimeError, EOFError, ValueError, LookupError, OverflowError,
    zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip
PUBLISHED = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
OFFICIAL = "https://github.com/lyuwenyu/storage/releases/download/v0.1"
SCALES = {  # endings of the published names
    "rtdetr-": "l x", "yolov3": "u -sppu -tinyu", "yolov5": "nu su mu lu xu n6u s6u m6u l6u x6u",
    "yolov8": "n s m l x n-oiv7 s-oiv7 m-oiv7 l-oiv7 x-oiv7", "yolov9": "t s m c e", "yolov10": "n s m b l x",
    **dict.fromkeys(("yolo11", "yolo12", "yolo26"), "n s m l x"),
}  # fmt: skip
PUBLISHED_NAMES = frozenset(f"{start}{end}.pt" for start, ends in SCALES.items() for end in ends.split())
OFFICIAL_NAMES = {  # to the names of the files, without the end
    "rtdetr_r18vd": "rtdetr_r18vd_dec3_6x_coco", "rtdetr_r34vd": "rtdetr_r34vd_dec4_6x_coco",
    "rtdetr_r50vd": "rtdetr_r50vd_6x_coco", "rtdetr_r101vd": "rtdetr_r101vd_6x_coco",
    "rtdetr_r18vd_coco_objects365": "rtdetr_r18vd_5x_coco_objects365",
    "rtdetr_r50vd_coco_objects365": "rtdetr_r50vd_2x_coco_objects365",
    "rtdetr_r101vd_coco_objects365": "rtdetr_r101vd_2x_coco_objects365",
}  # fmt: skip


@dataclass(frozen=True)
class Release:
    """Released weights: the address of the file, and the model file that it has no copy of."""

    url: str
    model_file: str | None = None


def released(file: str | Path) -> Release | None:
    """Return the release of weights that are asked for by a name without a folder; None for any other file.

    Examples:
        >>> released("yolo11n.pt").url.rpartition("/")[2], released("rtdetr_r18vd").model_file, released("a/yolo11n.pt")
        ('yolo11n.pt', 'rtdetr-r18.yaml', None)
    """
    name = str(file)
    if name in PUBLISHED_NAMES:
        return Release(f"{PUBLISHED}/{name}")
    stem = name.removesuffix(".pth").removesuffix(".pt").removesuffix("_from_paddle")
    stem = OFFICIAL_NAMES.get(stem, stem)
    if stem not in OFFICIAL_NAMES.values():
        return None
    return Release(f"{OFFICIAL}/{stem}_from_paddle.pth", f"rtdetr-{stem.split('_')[1].removesuffix('vd')}.yaml")


def find_released(file: str | Path, check: Callable[[Path], object]) -> Path:
    """Return a weights file, which for the name of a released one is here, in `settings["weights_dir"]`, or fetched.

    A path with a folder, and any other name, is returned as it is. `check` is called with a fetched file.
    """
    release = released(file)
    if release is None or os.path.exists(file):
        return Path(file)
    name = release.url.rpartition("/")[2]
    folder = "." if os.path.exists(name) else SETTINGS["weights_dir"]
    return download_file(release.url, Path(folder, name), check)


def download_file(url: str, file: Path, check: Callable[[Path], object] = Path.stat) -> Path:
    """Download `url` to `file` unless it exists; resume an interrupted download.

    `check` raises UserError for a whole download that is not what it should be, which is then removed.
    Raises UserError with the address, the reason and the path to save the file by hand.
    """
    if os.path.exists(file):
        return file
    part, lock = (file.with_name(file.name + end) for end in (".part", ".lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, "a", encoding="utf-8") as locked:
            while not lock_file(locked):
                time.sleep(0.2)
            try:
                if not os.path.exists(file):  # otherwise another process has downloaded it
                    _resume(url, part)
                    _check(url, part, check)
                    os.replace(part, file)
            finally:
                lock.unlink(missing_ok=True)
    except UserError:
        raise
    except NETWORK_ERRORS as error:
        if getattr(error, "code", None) == 416:
            part.unlink(missing_ok=True)  # range not satisfiable: the file has changed on the server
        raise UserError(
            f"{url} could not be downloaded ({getattr(error, 'reason', None) or error}). Check the network and run "
            f"again (partial downloads are kept), or download it by hand and save it as {file}"
        ) from error
    return file


def _resume(url: str, part: Path) -> None:
    """Transfer a file, and resume an interrupted connection as long as bytes arrive."""
    for attempt in range(ATTEMPTS):
        before = size_of(part)
        try:
            return _transfer(url, part)
        except HTTPError:
            raise
        except NETWORK_ERRORS:
            if size_of(part) <= before or attempt + 1 == ATTEMPTS:
                raise


def _check(url: str, part: Path, check: Callable[[Path], object]) -> None:
    try:
        check(part)
    except UserError as error:
        part.unlink()
        raise UserError(f"{url}: the download is not used ({error})") from error


def _transfer(url: str, part: Path) -> None:
    """Append the rest of a file to what has arrived before; raise UserError if it is too large."""
    done = size_of(part)
    with _open(urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})) as answer:
        resumed = answer.status == 206
        done = done if resumed else 0
        limit = min(DOWNLOAD_LIMIT, done + shutil.disk_usage(part.parent).free)
        if done + (answer.length or 0) > limit:
            raise UserError(f"{url}: {answer.length:,} bytes, expected at most {limit - done:,} (disk space)")
        LOGGER.info(f"Downloading {part.stem}")
        bar = tqdm(total=answer.length, unit="B", unit_scale=True, desc=part.stem, disable=None)
        with bar, open(part, "ab" if resumed else "wb") as stream:
            while chunk := answer.read(CHUNK):
                if (done := done + len(chunk)) > limit:
                    raise UserError(f"{url}: more than {limit:,} bytes; expected a smaller file")
                stream.write(chunk)
                bar.update(len(chunk))
        if answer.length:  # announced bytes that did not arrive
            raise OSError(f"the connection ended {answer.length} bytes too early")


def fetch(url: str, limit: int) -> bytes:
    """Return the content of `url`, at most `limit` bytes; user name and password in it are sent if requested.

    Raises UserError with the address (without the password) and the reason.
    """
    bare = "the address"
    try:
        parts = urlsplit(url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if parts.username:
            passwords.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
        handlers = (urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords))
        with _open(bare, *handlers) as answer:
            data = answer.read(limit + 1)
            if len(data) > limit:
                raise UserError(f"{bare}: more than {limit / 1e6:.0f} MB, which is too large for one image")
            if answer.length:  # announced bytes that did not arrive
                raise OSError(f"the connection ended {answer.length} bytes too early")
            return data
    except UserError:
        raise
    except NETWORK_ERRORS as error:
        raise UserError(f"{bare} could not be read ({getattr(error, 'reason', None) or error})") from error


def _open(request: str | urllib.request.Request, *handlers: urllib.request.BaseHandler) -> HTTPResponse:
    """Open an address of http or https; there are no handlers for other schemes, also behind redirects."""
    address = request if isinstance(request, str) else request.full_url
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError(f"{address[:200]!r}: expected an address that starts with http:// or https://")
    opener, names = urllib.request.OpenerDirector(), ("Proxy", "HTTP", "HTTPS", "HTTPDefaultError", "HTTPRedirect")
    for handler in (*(getattr(urllib.request, f"{name}Handler")() for name in (*names, "Unknown")), *handlers):
        opener.add_handler(handler)
    opener.add_handler(urllib.request.HTTPErrorProcessor())
    return opener.open(request, timeout=TIMEOUT)


def extract(archive: Path, folder: Path, *, strip: bool = False, exclude: Sequence[str] = ()) -> list[str]:
    """Unpack a .zip or .tar(.gz ...) into `folder`; `strip` skips the single top folder. Return the members' names.

    Those of a .zip whose name contains a text of `exclude` are left out.
    Members are never written outside `folder`, and not more of them than UNPACKED_LIMIT and MAX_RATIO permit.
    """
    target = folder / ".unpacked" if strip else folder
    try:
        limit = max(UNPACKED_LIMIT, MAX_RATIO * archive.stat().st_size)
        target.mkdir(parents=True, exist_ok=True)
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                _check_unpacked(archive, sum(member.file_size for member in packed.infolist()), limit)
                names = [name for name in packed.namelist() if not any(text in name for text in exclude)]
                packed.extractall(target, names)  # drops absolute paths and ".."
        else:
            with tarfile.open(archive) as packed:
                size, names = 0, []
                for member in packed:
                    names.append(member.name)
                    size += member.size
                    _check_unpacked(archive, size, limit)
                    packed.extract(member, target, filter="data")
        if strip:
            for top in list(target.iterdir()):
                for item in list(top.iterdir()) if top.is_dir() else [top]:
                    shutil.move(item, folder / item.name)
            shutil.rmtree(target)
        return names
    except UserError:
        raise
    except ARCHIVE_ERRORS as error:
        reason = first_line(error)
        raise UserError(f"{archive}: not a readable zip or tar file ({reason}); delete it and run again") from error


def _check_unpacked(archive: Path, size: int, limit: int) -> None:
    if size > limit:
        raise UserError(f"{archive}: unpacks to {size:,} bytes or more, expected at most {limit:,}; nothing is used")


__getattr__ = public_names(__name__)
