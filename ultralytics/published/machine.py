"""Facts about machine, Python and files by their published names. Importing this imports no torch."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path

from ultralytics.published.scripting import is_colab, is_online

ASSETS_URL = "https://github.com/ultralytics/assets/releases/download/v0.0.0"
ARM64 = platform.machine().lower() in ("arm64", "aarch64")
MACOS_VERSION = platform.mac_ver()[0]


def __getattr__(name: str) -> object:
    """Return flags as they are now: ONLINE, IS_COLAB, IS_PYTHON_3_12, IS_PYTHON_MINIMUM_3_10, TORCH_VERSION, ..."""
    if python := re.fullmatch(r"IS_PYTHON_(MINIMUM_)?(\d+)_(\d+)", name):
        version = int(python[2]), int(python[3])
        return sys.version_info[:2] >= version if python[1] else sys.version_info[:2] == version
    if name in ("TORCH_VERSION", "TORCHVISION_VERSION"):
        return metadata.version(name.partition("_")[0].lower())
    checks = {"ONLINE": is_online, "IS_COLAB": is_colab, "IS_DOCKER": is_docker, "IS_JETSON": is_jetson,
              "IS_RASPBERRYPI": is_raspberrypi}  # fmt: skip
    if name in checks:
        return checks[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def is_docker() -> bool:
    """Check for a container of Docker."""
    return Path("/.dockerenv").exists()


def is_jetson() -> bool:
    """Check for a board of NVIDIA Jetson."""
    return "tegra" in platform.release()


def is_raspberrypi() -> bool:
    """Check for a Raspberry Pi."""
    model = Path("/proc/device-tree/model")
    return model.exists() and "Raspberry Pi" in model.read_text()


def is_github_action_running() -> bool:
    """Check for a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def get_ubuntu_version() -> str | None:
    """Return the release of Ubuntu, such as "22.04"; None on other systems."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return release.get("VERSION_ID") if release.get("ID") == "ubuntu" else None


def cuda_device_count() -> int:
    """Return the number of GPUs that torch can use."""
    import torch

    return torch.cuda.device_count()


def cuda_is_available() -> bool:
    """Check whether torch can use a GPU."""
    return cuda_device_count() > 0


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
