"""The machine, its folders, threads, errors and downloads by published names. Importing this imports no torch."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tqdm.auto import tqdm as TQDM  # noqa: F401 - public name

from ultralytics.utils import LOGGER, PACKAGE_ROOT, cache_dir, downloads
from ultralytics.utils.checks import in_notebook, usable_cores
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import git
from ultralytics.utils.settings import SETTINGS

MACOS, LINUX, WINDOWS = (platform.system() == name for name in ("Darwin", "Linux", "Windows"))
ROOT, FILE = PACKAGE_ROOT, PACKAGE_ROOT / "utils" / "__init__.py"
NUM_THREADS = min(8, max(1, usable_cores() - 1))
PYTHON_VERSION, MACOS_VERSION = platform.python_version(), platform.mac_ver()[0]
ASSETS_URL = "https://github.com/ultralytics/assets/releases/download/v0.0.0"
_CHIPS = "rk2118 rk3562 rk3566 rk3568 rk3576 rk3588 rv1103 rv1103b rv1106 rv1106b rv1126b"
RKNN_CHIPS = frozenset(_CHIPS.split())
NOT_MACOS14 = not (MACOS and MACOS_VERSION.startswith("14."))
ARM64 = platform.machine().lower() in ("arm64", "aarch64")
VERBOSE, AUTOINSTALL, TESTS_RUNNING, TQDM_BAR_FORMAT, PIN_MEMORY = True, False, False, None, True
DATASET_CACHE_VERSION, HELP_URL = "1.0.12", "see docs/en/data.md"
is_dir_writeable = functools.partial(os.access, mode=os.W_OK)
clean_str = functools.partial(re.sub, r"[|@#!¡·$€%&()=?¿^*;:,¨`><+]", "_")
remove_colorstr = functools.partial(re.sub, r"\x1b\[[\d;]*m", "")


def __getattr__(name: str) -> object:
    """Return folders and flags as they are now, so that importing has no effect: RUNS_DIR, RANK, TORCH_2_0, ..."""
    if name in ("DATASETS_DIR", "WEIGHTS_DIR", "RUNS_DIR"):
        return Path(SETTINGS[name.lower()])
    if name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        return int(os.environ.get(name, 1 if name == "WORLD_SIZE" else -1))
    if flag := re.fullmatch(r"(TORCH|TORCHVISION)_(\d+)_(\d+)", name):  # at least that version
        return [*map(int, metadata.version(flag[1].lower()).split(".")[:2])] >= [int(flag[2]), int(flag[3])]
    if python := re.fullmatch(r"IS_PYTHON_(MINIMUM_)?(\d+)_(\d+)", name):
        version = int(python[2]), int(python[3])
        return sys.version_info[:2] >= version if python[1] else sys.version_info[:2] == version
    if name in ("TORCH_VERSION", "TORCHVISION_VERSION"):
        return metadata.version(name.partition("_")[0].lower())
    flags = {f.__name__.upper(): f for f in (is_colab, is_docker, is_jetson, is_raspberrypi)}
    flags |= {"ONLINE": is_online, "IS_JUPYTER": in_notebook, "USER_CONFIG_DIR": cache_dir, "GIT": GitRepo}
    flags |= {"ENVIRONMENT": environment, "IS_KAGGLE": is_kaggle}
    if name in flags:
        return flags[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def environment() -> str:
    kinds = {"Colab": is_colab, "Kaggle": is_kaggle, "Jupyter": in_notebook, "Docker": is_docker}
    return next((name for name, found in kinds.items() if found()), platform.system())


def is_docker() -> bool:
    return Path("/.dockerenv").exists()


def is_jetson() -> bool:
    return "tegra" in platform.release()


def _board(file: str) -> str:
    path = Path("/proc/device-tree", file)
    return path.read_text() if path.exists() else ""


def is_raspberrypi() -> bool:
    return "Raspberry Pi" in _board("model")


def is_rockchip() -> bool:
    return any(chip in _board("compatible") for chip in RKNN_CHIPS)


def is_kaggle() -> bool:
    return "KAGGLE_URL_BASE" in os.environ


def is_pip_package(filepath: str = __name__) -> bool:
    return getattr(importlib.util.find_spec(filepath), "origin", None) is not None


class CPUInfo:
    """Name of the processor, as text or from the function `name`."""

    @staticmethod
    def name() -> str:
        info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        return next((line.partition(": ")[2] for line in info.splitlines() if "model name" in line), "unknown")

    def __str__(self) -> str:
        return self.name()


get_cpu_info = CPUInfo.name


def is_intel() -> bool:
    return "intel" in get_cpu_info().lower()


class GitRepo:
    """Root, branch, commit, message and origin of the git repository of a folder; None where there is none."""

    def __init__(self, path: Path | None = None) -> None:
        asked = {"root": "rev-parse --show-toplevel", "gitdir": "rev-parse --absolute-git-dir"}
        asked |= {"commit": "rev-parse HEAD", "branch": "branch --show-current"}
        asked |= {"message": "log -1 --format=%s", "origin": "remote get-url origin"}
        vars(self).update({name: git(path or PACKAGE_ROOT, *words.split()) for name, words in asked.items()})
        self.is_repo = self.root is not None


def is_git_dir() -> bool:
    return GitRepo().is_repo


def get_git_origin_url() -> str | None:
    return GitRepo().origin


def is_sudo_available() -> bool:
    return bool(shutil.which("sudo"))


def get_ubuntu_version() -> str | None:
    """Return the release of Ubuntu, such as "22.04"; None on other systems."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return release.get("VERSION_ID") if release.get("ID") == "ubuntu" else None


def is_github_action_running() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def cuda_device_count() -> int:
    return importlib.import_module("torch").cuda.device_count()


def cuda_is_available() -> bool:
    return cuda_device_count() > 0


@contextlib.contextmanager
def TryExcept(msg: str = "", verbose: bool = True) -> Iterator[None]:
    """Log an exception of a block or function as a warning that starts with `msg`, in place of raising it."""
    try:
        yield
    except Exception as error:
        if verbose:
            LOGGER.warning(f"{msg}{': ' if msg else ''}{error}")


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


def Retry(times: int = 3, delay: float = 2, verbose: bool = True) -> Callable[..., Any]:
    """Return a decorator: after an exception the function is called again, in 2, 4, ... times `delay` seconds."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for attempt in range(1, times):
                with TryExcept(f"Retry {attempt}/{times} failed", verbose):
                    return function(*args, **kwargs)
                time.sleep(delay * 2**attempt)
            return function(*args, **kwargs)

        return call

    return decorate


@contextlib.contextmanager
def override_configs(args: Any, overrides: dict[str, Any] | None = None) -> Iterator[Any]:
    """Change options in a block."""
    before = dict(vars(args))
    vars(args).update(overrides or {})
    try:
        yield args
    finally:
        vars(args).update(before)


def get_default_args(func: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a function that have a default, with it."""
    arguments = inspect.signature(func).parameters.values()
    return {argument.name: argument.default for argument in arguments if argument.default is not argument.empty}


def to_2tuple(x: Any) -> Any:
    return x if isinstance(x, Iterable) else (x, x)


class ThreadingLocked(contextlib.ContextDecorator):
    """Decorate a function that one thread at a time may run: `@ThreadingLocked()`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *error: object) -> None:
        self.lock.release()


@contextlib.contextmanager
def WorkingDirectory(new_dir: str | Path) -> Iterator[None]:
    """Change the working folder in a block or function."""
    before = Path.cwd()
    os.chdir(new_dir)
    try:
        yield
    finally:
        os.chdir(before)


def plt_settings(rcparams: dict[str, Any] | None = None, backend: str = "Agg") -> Callable[..., Any]:
    """Decorate a function that draws with pyplot: settings and backend are changed for the call."""
    import matplotlib

    return matplotlib.rc_context({"backend": backend, **(rcparams or {"font.size": 11})})


def print_args(args: dict[str, Any] | None = None, show_file: bool = True, show_func: bool = False) -> None:
    """Log arguments, by default those of the calling function, behind the names of its file and of itself."""
    frame = sys._getframe(1)
    place = [Path(frame.f_code.co_filename).stem] * show_file + [frame.f_code.co_name] * show_func
    args = args or {name: frame.f_locals[name] for name in inspect.getargvalues(frame).args}
    LOGGER.info(": ".join([*place, ", ".join(f"{name}={value}" for name, value in args.items())]))


def emojis(string: str = "") -> str:
    """Return the text, on Windows without characters beyond ASCII."""
    return string.encode().decode("ascii", "ignore") if WINDOWS else string


def parse_version(version: str = "0.0.0") -> tuple[int, ...]:
    """Return the numbers of a version, at least three."""
    numbers = re.findall(r"(?:^\D*|\.)(\d+)", version.partition("+")[0])
    return tuple(map(int, [*numbers, *"000"[len(numbers) :]]))


def is_colab() -> bool:
    return "google.colab" in sys.modules


def is_online() -> bool:
    """Check whether a public name server answers; nothing is sent to it."""
    with contextlib.suppress(OSError), socket.create_connection(("1.1.1.1", 53), 2.0):
        return True
    return False


def clean_url(url: str | Path) -> str:
    """Return an address or path with single slashes, decoded and without its query."""
    return re.sub(":/+", "://", unquote(Path(url).as_posix()).partition("?")[0])


def url2file(url: str | Path) -> str:
    return Path(clean_url(url)).name


def is_url(url: str | Path, check: bool = False) -> bool:
    """Return whether this is an address; with `check`, one whose file can be read."""
    parts = urlsplit(str(url))
    with contextlib.suppress(UserError):
        return bool(parts.scheme and parts.netloc and (not check or downloads.fetch(str(url), sys.maxsize)))
    return False


def check_is_path_safe(basedir: Path | str, path: Path | str) -> bool:
    """Return whether a path exists and is in a folder."""
    return Path(path).exists() and Path(path).resolve().is_relative_to(Path(basedir).resolve())


def get_latest_run(search_dir: str | Path = ".") -> str:
    """Return the newest file last*.pt below a folder, or ''."""
    return str(max(Path(search_dir).rglob("last*.pt"), key=os.path.getmtime, default=""))


def fetch(
    url: str | Path, file: str | Path | None = None, dir: str | Path | None = None, unzip: bool = True,
    delete: bool = False, **unused: Any,
) -> Path:  # fmt: skip
    """Fetch an address into `dir`, or as `file`; unpack an archive there. Return the path, or the archive's folder."""
    name = Path(file or str(url).partition("?")[0].rpartition("/")[2])
    path = name if file and dir is None else Path(dir or ".") / name.name
    path = downloads.download_file(str(url), path) if "://" in str(url) else Path(url)
    if not unzip or path.suffix.lower() not in (".zip", ".tar", ".gz", ".tgz"):
        return path
    folder = unzip_file(path, Path(dir or path.parent).resolve(), exist_ok=True)
    if delete:
        path.unlink()
    return folder


def unzip_file(
    file: str | Path, path: str | Path | None = None, exclude: Sequence[str] = (".DS_Store", "__MACOSX"),
    exist_ok: bool = False, progress: bool = True,
) -> Path:  # fmt: skip
    """Unpack an archive, without members whose name has a text of `exclude`; return its folder, or one of its name.

    Without `exist_ok` nothing is written into a folder that has files.
    """
    file, folder = Path(file), Path(path or Path(file).parent)
    names = zipfile.ZipFile(file).namelist() if zipfile.is_zipfile(file) else ["a/b"]
    names = [name for name in names if not any(text in name for text in exclude)]
    flat = len(_tops(names)) != 1 or not any("/" in name.strip("./") for name in names)
    target = folder / (file.stem if flat else _tops(names)[0])
    if not exist_ok and target.is_dir() and any(target.iterdir()):
        LOGGER.warning(f"{file} is not unpacked: {target} has files already")
        return target
    names = downloads.extract(file, folder / file.stem if flat else folder, exclude=exclude)
    return target if flat else folder / _tops(names)[0]


def _tops(names: Iterable[str]) -> list[str]:
    """Return the folders and files at the top of an archive with these members."""
    return [*dict.fromkeys(top for name in names if (top := os.path.normpath(name).partition(os.sep)[0]) != ".")]


def fetch_all(
    url: str | Iterable[str], dir: str | Path = ".", unzip: bool = True, delete: bool = False, **unused: Any
) -> None:
    """Fetch one or several addresses; threads, retry, curl and exist_ok have no effect, as downloads continue."""
    for address in [url] if isinstance(url, (str, Path)) else url:
        fetch(address, dir=dir, unzip=unzip, delete=delete)


def zip_directory(directory: str | Path) -> Path:
    """Write a folder into a zip file beside it."""
    return Path(shutil.make_archive(str(directory), "zip", directory))


def file_size(path: str | Path | None) -> float:
    """Return the MB of a file, or of the files in a folder; 0.0 if there is none."""
    found = Path(path or os.devnull)
    return sum(file.stat().st_size for file in (found, *found.rglob("*")) if file.is_file()) / 2**20


def file_age(path: str | Path = __file__) -> int:
    """Return the days since a file was changed."""
    return (datetime.now() - datetime.fromtimestamp(Path(path).stat().st_mtime)).days


def file_date(path: str | Path = __file__) -> str:
    """Return the day on which a file was changed, such as "2024-1-31"."""
    changed = datetime.fromtimestamp(Path(path).stat().st_mtime)
    return f"{changed.year}-{changed.month}-{changed.day}"


@contextlib.contextmanager
def spaces_in_path(path: str | Path) -> Iterator[str | Path]:
    """Yield a copy, whose path has no spaces, of a file or folder that has some; write it back afterwards."""
    if " " not in str(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        source, copy = Path(path), Path(folder) / Path(path).name.replace(" ", "_")
        is_folder = source.is_dir()
        (shutil.copytree if is_folder else shutil.copy2)(source, copy)
        yield copy if isinstance(path, Path) else str(copy)
        shutil.copytree(copy, source, dirs_exist_ok=True) if is_folder else shutil.copy2(copy, source)
