"""What this machine has, what a package or an image size must be."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
from importlib import metadata
from types import ModuleType

from ultralytics.utils import LOGGER, PACKAGE_ROOT, __version__, setup_logging
from ultralytics.utils.errors import MissingPackageError, OptionError

GIGABYTE = 1024**3

# The same module under several distribution names; servers without a display use the headless ones.
_SAME_MODULE = {
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}


def require(package: str, pip_name: str, purpose: str) -> ModuleType:
    """Import an optional package. MissingPackageError has the pip command: `purpose` starts it, "official COCO AP"."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        missing_itself = error.name is not None and f"{package}.".startswith(f"{error.name}.")
        if not missing_itself:
            raise  # it is installed and lacks something of its own: not for this message to guess
        raise MissingPackageError(
            f'{purpose} needs the package {package!r}, which is not installed: pip install "{pip_name}"'
        ) from error


def check_imgsz(imgsz: int | list[int], stride: int = 32) -> int | list[int]:
    """The image size (one side or [height, width]) rounded up to multiples of the stride, with a line in the log."""
    sides = imgsz if isinstance(imgsz, (list, tuple)) else [imgsz]
    if any(side < 1 for side in sides):
        raise OptionError(f"imgsz: expected a size of at least {stride}, got {imgsz}")
    rounded = [-(-side // stride) * stride for side in sides]
    result = rounded if isinstance(imgsz, (list, tuple)) else rounded[0]
    if rounded != list(sides):
        LOGGER.warning(f"imgsz={imgsz} is not a multiple of the model's stride {stride}; using {result}")
    return result


def collect_system_info() -> dict[str, str]:
    """Versions, processor, memory, disk and GPUs, in words. What cannot be found out is left out, never guessed."""
    free = shutil.disk_usage(os.getcwd()).free
    info = {
        "ultralytics": f"{__version__} ({PACKAGE_ROOT})",
        "Python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processor": f"{platform.processor() or platform.machine()}, {usable_cores()} cores usable",
        "disk free here": f"{free / GIGABYTE:.1f} GB",
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        info["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIGABYTE:.1f} GB"
    info.update(_torch_info())
    return info


def usable_cores() -> int:
    """Cores this process may use: in containers fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _torch_info() -> dict[str, str]:
    try:
        import torch
    except ModuleNotFoundError:
        return {"torch": "not installed: pip install torch torchvision"}
    info = {"torch": torch.__version__, "GPU": "none that torch can use; device=cpu"}
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        named = [f"{i}: {card.name}, {card.total_memory / GIGABYTE:.1f} GB" for i, card in enumerate(cards)]
        info["GPU"] = f"{'; '.join(named)} (CUDA {torch.version.cuda})"
    elif torch.backends.mps.is_available():
        info["GPU"] = "Apple silicon; device=mps"
    return info


def requirement_states() -> dict[str, str]:
    """For each package this one needs, or may use: its version, and what to do where it is missing or too old.

    Empty when this package runs from a folder without being installed, since its needs are then not on record.
    """
    try:
        needs = metadata.requires("ultralytics") or []
    except metadata.PackageNotFoundError:
        return {}
    states = {}
    for need in needs:
        name, minimum, extra = _parse_requirement(need)
        if extra in (None, "coco"):
            states[name] = _requirement_state(name, minimum, optional=extra is not None)
    return states


def _parse_requirement(text: str) -> tuple[str, str, str | None]:
    """Name, least version ('' for any) and extra of a requirement such as `pytest>=8.0; extra == "dev"`."""
    need, _, condition = text.partition(";")
    name, _, minimum = need.strip().partition(">=")
    extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", condition)
    return name.strip(), minimum.strip(), extra[1] if extra else None


def _requirement_state(name: str, minimum: str, *, optional: bool) -> str:
    wanted = f'pip install "{name}>={minimum}"' if minimum else f"pip install {name}"
    for distribution in (name, *_SAME_MODULE.get(name, ())):
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
        found = version if distribution == name else f"{version} as {distribution}"
        return found if _numbers(version) >= _numbers(minimum) else f"{found}, older than {minimum}: {wanted}"
    return f"not installed ({'optional' if optional else 'needed'}): {wanted}"


def _numbers(version: str) -> tuple[int, ...]:
    """(2, 4, 1) of 2.4.1+cpu, for comparing."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def checks() -> dict[str, str]:
    """Print what this machine has and return it: the first thing to send along with a question."""
    setup_logging()
    rows = {**collect_system_info(), **requirement_states()}
    width = max(len(name) for name in rows)
    LOGGER.info("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    return rows
