"""Platform, folders, threads, errors and downloads of the published interface. Importing this imports no torch."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ultralytics.utils import LOGGER, PACKAGE_ROOT, downloads
from ultralytics.utils.checks import usable_cores
from ultralytics.utils.settings import SETTINGS

MACOS, LINUX, WINDOWS = (platform.system() == name for name in ("Darwin", "Linux", "Windows"))
ROOT, FILE = PACKAGE_ROOT, PACKAGE_ROOT / "utils" / "__init__.py"
NUM_THREADS = min(8, max(1, usable_cores() - 1))
PYTHON_VERSION = platform.python_version()
TQDM = tqdm


def __getattr__(name: str) -> object:
    if name in ("DATASETS_DIR", "WEIGHTS_DIR", "RUNS_DIR"):  # as it is now
        return Path(SETTINGS[name.lower()])
    if name in ("LOCAL_RANK", "RANK"):  # read at access, so that importing has no effect
        return int(os.environ.get(name, -1))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class TryExcept(contextlib.ContextDecorator):
    """Log an exception of a block or function as a warning that starts with `msg`, in place of raising it."""

    def __init__(self, msg: str = "", verbose: bool = True) -> None:
        self.msg, self.verbose = msg, verbose

    def __enter__(self) -> None:
        """Enter the block."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, Exception) and self.verbose:
            LOGGER.warning(f"{self.msg}{': ' if self.msg else ''}{error}")
        return isinstance(error, Exception)


def threaded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function in a daemon thread and return the thread; `threaded=False` in a call runs it here."""

    @functools.wraps(function)
    def call(*args: Any, threaded: bool = True, **kwargs: Any) -> Any:
        if not threaded:
            return function(*args, **kwargs)
        thread = threading.Thread(target=function, args=args, kwargs=kwargs, daemon=True)
        thread.start()
        return thread

    return call


class WorkingDirectory(contextlib.ContextDecorator):
    """Change the working folder in a block or function."""

    def __init__(self, new_dir: str | Path) -> None:
        self.folder = new_dir

    def __enter__(self) -> None:
        self.before = Path.cwd()
        os.chdir(self.folder)

    def __exit__(self, *error: object) -> None:
        os.chdir(self.before)


def plt_settings(rcparams: dict[str, Any] | None = None, backend: str = "Agg") -> Callable[..., Any]:
    """Decorate a function that draws with pyplot: settings and backend are changed for the call."""
    import matplotlib

    return matplotlib.rc_context({"backend": backend, **(rcparams or {"font.size": 11})})


def emojis(string: str = "") -> str:
    """Return the text, on Windows without characters beyond ASCII."""
    return string.encode().decode("ascii", "ignore") if WINDOWS else string


def is_colab() -> bool:
    """Check for a notebook of Colab."""
    return "google.colab" in sys.modules


def is_online() -> bool:
    """Check whether a public name server answers; nothing is sent to it."""
    with contextlib.suppress(OSError), socket.create_connection(("1.1.1.1", 53), 2.0):
        return True
    return False


def get_latest_run(search_dir: str | Path = ".") -> str:
    """Return the newest file last*.pt below a folder, or ''."""
    return str(max(Path(search_dir).rglob("last*.pt"), key=os.path.getmtime, default=""))


def fetch(
    url: str | Path, file: str | Path | None = None, dir: str | Path | None = None, unzip: bool = True,
    delete: bool = False, **unused: Any,
) -> Path:  # fmt: skip
    """Fetch an address into `dir`, or as `file`, unpack an archive there, and return the path, or that folder.

    retry, curl and progress have no effect, as downloads continue.
    """
    name = Path(file or str(url).partition("?")[0].rpartition("/")[2])
    path = name if file and dir is None else Path(dir or ".") / name.name
    path = downloads.download_file(str(url), path) if "://" in str(url) else Path(url)
    if not unzip or path.suffix.lower() not in (".zip", ".tar", ".gz", ".tgz"):
        return path
    folder = Path(dir or path.parent)
    downloads.extract(path, folder)
    if delete:
        path.unlink()
    return folder


def fetch_all(
    url: str | Iterable[str], dir: str | Path = ".", unzip: bool = True, delete: bool = False, **unused: Any
) -> None:
    """Fetch one or several addresses; threads, retry, curl and exist_ok have no effect, as downloads continue."""
    for address in [url] if isinstance(url, (str, Path)) else url:
        fetch(address, dir=dir, unzip=unzip, delete=delete)


def zip_directory(directory: str | Path) -> Path:
    """Write a folder into a zip file beside it."""
    return Path(shutil.make_archive(str(directory), "zip", directory))
