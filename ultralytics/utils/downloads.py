"""The only place that touches the network, and only when a data set or weights were asked for that are not there."""

from __future__ import annotations

import os
import shutil
import tarfile
import urllib.request
import zipfile
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import UserError

TIMEOUT = 30  # seconds without an answer
CHUNK = 1 << 20


def download(url: str, file: Path) -> Path:
    """Fetch `url` into `file` (nothing to do when it is there), going on where an interrupted attempt stopped.

    Raises UserError with the address, the reason and where to put the file by hand.
    """
    file = Path(file)
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == 206
            done = done if resumed else 0
            total = done + int(answer.headers.get("Content-Length") or 0)
            _check_space(url, file, total - done)
            with open(part, "ab" if resumed else "wb") as stream:
                done += _copy(answer, stream, file.name, done, total)
    except OSError as error:  # URLError and HTTPError are OSErrors
        if getattr(error, "code", None) == 416:
            part.unlink()  # asked to go on after the end: the file has changed over there
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{url} could not be downloaded ({reason}). Check the network and run again (what was fetched is kept), "
            f"or download it by hand and save it as {file}"
        ) from error
    if total and done != total:
        raise UserError(f"{url}: the connection ended after {done} of {total} bytes; run again to go on from there")
    os.replace(part, file)
    return file


def fetch(url: str, limit: int) -> bytes:
    """What `url` answers, at most `limit` bytes; user name and password in it are sent when the server asks for them.

    Raises UserError with the address (without the password) and the reason.
    """
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username:
        passwords.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
    opener = urllib.request.build_opener(
        urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)
    )
    try:
        with opener.open(bare, timeout=TIMEOUT) as answer:
            data = answer.read(limit + 1)
            missing = answer.length or 0  # bytes that were announced and have not come
    except (OSError, HTTPException) as error:
        raise UserError(f"{bare} could not be read ({getattr(error, 'reason', None) or error})") from error
    if len(data) > limit:
        raise UserError(f"{bare}: more than {limit / 1e6:.0f} MB, which is too large for one picture")
    if missing:
        raise UserError(f"{bare}: the connection ended {missing} bytes too early")
    return data


def extract(archive: Path, folder: Path, strip: bool = False) -> None:
    """Unpack a .zip or .tar(.gz ...) into `folder`; `strip` leaves out the single folder at the top of the archive.

    Members that would leave `folder` are not written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / ".unpacked" if strip else folder
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(target)  # drops absolute paths and ".." by itself
        else:
            with tarfile.open(archive) as packed:
                packed.extractall(target, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise UserError(f"{archive}: not a readable zip or tar file; delete it and run again") from error
    if strip:
        for top in target.iterdir():
            for item in top.iterdir():
                shutil.move(item, folder / item.name)
        shutil.rmtree(target)


def _check_space(url: str, file: Path, needed: int) -> None:
    free = shutil.disk_usage(file.parent).free
    if needed > free:
        text = f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {file.parent}"
        raise UserError(f"{url}: {text}; make room, or set ULTRALYTICS_CACHE to another folder")


def _copy(source, target, name: str, done: int, total: int) -> int:
    """Bytes copied, with a bar."""
    copied = 0
    LOGGER.info(f"Downloading {name}")
    with tqdm(total=total or None, initial=done, unit="B", unit_scale=True, desc=name) as bar:
        while chunk := source.read(CHUNK):
            target.write(chunk)
            bar.update(len(chunk))
            copied += len(chunk)
    return copied
