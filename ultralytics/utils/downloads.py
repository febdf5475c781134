"""Network access of the package: only for missing data sets or weights, and images behind an address."""

import lzma
import os
import shutil
import struct
import tarfile
import urllib.request
import zipfile
import zlib
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tqdm.auto import tqdm

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import first_line
from ultralytics.utils.public import public_names

TIMEOUT = 30  # seconds without an answer
CHUNK = 1 << 20
DOWNLOAD_LIMIT = 1 << 36  # bytes of one file
UNPACKED_LIMIT, MAX_RATIO = 1 << 28, 50  # bytes in an archive, or in one byte of it if that is more
NETWORK_ERRORS = (  # also of addresses and headers that the standard library cannot parse
    OSError, HTTPException, ValueError, LookupError, OverflowError,
)  # fmt: skip
ARCHIVE_ERRORS = (  # also unsupported versions and compressions, passwords, and damaged streams
    OSError, zipfile.BadZipFile, tarfile.TarError, RuntimeError, EOFError, ValueError, LookupError, OverflowError,
    zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip


def download_file(url: str, file: Path) -> Path:
    """Download `url` to `file` unless it exists; resume an interrupted download.

    Raises UserError with the address, the reason and the path to save the file by hand.
    """
    if os.path.exists(file):
        return file
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        done = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        with _open(request) as answer:
            resumed = answer.status == 206
            done = done if resumed else 0
            limit = min(DOWNLOAD_LIMIT, done + shutil.disk_usage(file.parent).free)
            if done + (answer.length or 0) > limit:
                raise UserError(f"{url}: {answer.length:,} bytes, expected at most {limit - done:,} (disk space)")
            LOGGER.info(f"Downloading {file.name}")
            bar = tqdm(total=answer.length, unit="B", unit_scale=True, desc=file.name, disable=None)
            with bar, open(part, "ab" if resumed else "wb") as stream:
                while chunk := answer.read(CHUNK):
                    if (done := done + len(chunk)) > limit:
                        raise UserError(f"{url}: more than {limit:,} bytes; expected a smaller file")
                    stream.write(chunk)
                    bar.update(len(chunk))
            if answer.length:  # announced bytes that did not arrive
                raise OSError(f"the connection ended {answer.length} bytes too early")
    except UserError:
        raise
    except NETWORK_ERRORS as error:
        if getattr(error, "code", None) == 416:
            part.unlink(missing_ok=True)  # range not satisfiable: the file has changed on the server
        raise UserError(
            f"{url} could not be downloaded ({getattr(error, 'reason', None) or error}). Check the network and run "
            f"again (partial downloads are kept), or download it by hand and save it as {file}"
        ) from error
    os.replace(part, file)
    return file


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


def extract(archive: Path, folder: Path, *, strip: bool = False) -> None:
    """Unpack a .zip or .tar(.gz ...) into `folder`; `strip` skips the single top folder of the archive.

    Members are never written outside `folder`, and not more of them than UNPACKED_LIMIT and MAX_RATIO permit.
    """
    target = folder / ".unpacked" if strip else folder
    try:
        limit = max(UNPACKED_LIMIT, MAX_RATIO * archive.stat().st_size)
        target.mkdir(parents=True, exist_ok=True)
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                _check_unpacked(archive, sum(member.file_size for member in packed.infolist()), limit)
                packed.extractall(target)  # drops absolute paths and ".."
        else:
            with tarfile.open(archive) as packed:
                size = 0
                for member in packed:
                    size += member.size
                    _check_unpacked(archive, size, limit)
                    packed.extract(member, target, filter="data")
        if strip:
            for top in list(target.iterdir()):
                for item in list(top.iterdir()) if top.is_dir() else [top]:
                    shutil.move(item, folder / item.name)
            shutil.rmtree(target)
    except UserError:
        raise
    except ARCHIVE_ERRORS as error:
        raise UserError(
            f"{archive}: not a readable zip or tar file ({first_line(error)}); delete it and run again"
        ) from error


def _check_unpacked(archive: Path, size: int, limit: int) -> None:
    if size > limit:
        raise UserError(
            f"{archive}: unpacks to {size:,} bytes or more, expected at most {limit:,}; nothing in it is used"
        )


__getattr__ = public_names(__name__)
