"""Network access of the package: only for missing data sets or weights, and images behind an address."""

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
    """Download `url` to `file` unless it exists; resume an interrupted download.

    Raises UserError with the address, the reason and the path to save the file by hand.
    """
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == 206
            LOGGER.info(f"Downloading {file.name}")
            bar = tqdm(total=answer.length, unit="B", unit_scale=True, desc=file.name)
            with bar, open(part, "ab" if resumed else "wb") as stream:
                while chunk := answer.read(CHUNK):
                    stream.write(chunk)
                    bar.update(len(chunk))
            if answer.length:  # announced bytes that did not arrive
                raise OSError(f"the connection ended {answer.length} bytes too early")
    except OSError as error:  # includes URLError and HTTPError
        if getattr(error, "code", None) == 416:
            part.unlink()  # range not satisfiable: the file has changed on the server
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
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username:
        passwords.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
    handlers = (urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords))
    try:
        with urllib.request.build_opener(*handlers).open(bare, timeout=TIMEOUT) as answer:
            data = answer.read(limit + 1)
            if len(data) > limit:
                raise UserError(f"{bare}: more than {limit / 1e6:.0f} MB, which is too large for one image")
            if answer.length:  # announced bytes that did not arrive
                raise OSError(f"the connection ended {answer.length} bytes too early")
            return data
    except UserError:
        raise
    except (OSError, HTTPException, ValueError, OverflowError) as error:  # also names and ports that do not exist
        raise UserError(f"{bare} could not be read ({getattr(error, 'reason', None) or error})") from error


def extract(archive: Path, folder: Path, *, strip: bool = False) -> None:
    """Unpack a .zip or .tar(.gz ...) into `folder`; `strip` skips the single top folder of the archive.

    Members are never written outside `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / ".unpacked" if strip else folder
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(target)  # drops absolute paths and ".."
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
