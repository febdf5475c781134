"""Checks of the system, of packages, image sizes and device names. Importing this imports no torch."""

import importlib.util
import os
import platform
import re
import shutil
import sys
from importlib import metadata
from types import ModuleType
from typing import Any

from ultralytics.utils import LOGGER, PACKAGE_ROOT, __version__, setup_logging
from ultralytics.utils.errors import MissingPackageError, OptionError
from ultralytics.utils.public import public_names

GIB = 1024**3
PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "scipy", "ultralytics-thop", "opencv-python", "opencv-python-headless",
    "pillow", "matplotlib", "pyyaml", "faster-coco-eval", "onnx", "onnxruntime", "openvino",
)  # fmt: skip


def in_notebook() -> bool:
    """Return whether this runs in a notebook, of Jupyter or Colab."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def check_imshow(warn: bool = False) -> bool:
    """Check whether OpenCV can open a window here, which ends the process without a display; `warn` logs if not."""
    shown = sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if warn and not shown:
        LOGGER.warning("no window can be opened here (DISPLAY is not set); save=True writes the images")
    return shown


def require(package: str, pip_name: str, purpose: str) -> ModuleType:
    """Import and return an optional package; MissingPackageError starts with `purpose` and has the pip command."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise  # installed, but one of its own dependencies is missing
        raise MissingPackageError(
            f'{purpose} needs the package {package!r}, which is not installed: pip install "{pip_name}"'
        ) from error


def is_installed(requirement: str) -> bool:
    """Return whether the package of a pip requirement can be imported, or is installed under another import name."""
    name = re.match(r"[\w-]*", requirement)[0]
    if name in sys.modules:
        return sys.modules[name] is not None
    return bool(importlib.util.find_spec(name)) or any(metadata.distributions(name=name))


def image_stride(network: Any) -> int:
    """Return the number that image sides are multiples of: the largest stride of the head, at least 32.

    The layers before a head without coarse maps have larger strides than the head.
    """
    return max(int(max(network.stride)), 32)


def check_imgsz(
    imgsz: int | str | list[int], stride: int = 32, min_dim: int = 1, max_dim: int = 2, floor: int = 0
) -> int | list[int]:
    """Round an image size (one side or [height, width]) up to multiples of `stride`, at least `floor`; log a change.

    `max_dim=1` makes one side of two equal ones, `min_dim=2` two of one.
    """
    if isinstance(imgsz, str):  # of a command line: "640" or "[640, 480]"
        sides = [int(side) for side in re.sub(r"[\s\[\]()]|,$", "", imgsz).split(",")]
        imgsz = sides if "[" in imgsz or "," in imgsz else sides[0]
    stride = int(max(stride)) if hasattr(stride, "__len__") else int(stride)
    if max_dim == 1 and not isinstance(imgsz, int):
        if len({*imgsz}) > 1:
            raise OptionError(f"imgsz: expected one size, got {imgsz}; for a square write {max(imgsz)}")
        imgsz = imgsz[0]
    if min_dim == 2 and isinstance(imgsz, int):
        imgsz = [imgsz, imgsz]
    sides = [imgsz] if isinstance(imgsz, int) else list(imgsz)
    if min(sides) < 1:
        raise OptionError(f"imgsz: expected a size of at least {stride}, got {imgsz}")
    rounded = [max(-(-side // stride) * stride, floor) for side in sides]
    result = rounded[0] if isinstance(imgsz, int) else rounded
    if rounded != sides:
        LOGGER.warning(f"imgsz={imgsz} is not a multiple of the model's stride {stride}; using {result}")
    return result


def normalize_device(device: object) -> str:
    """Return 'cpu', 'mps' or comma-separated GPU indices for a device, a list of devices or a torch.device.

    'cpu,cpu' is two processes on the CPU, to test multi-GPU training. Raises ValueError for anything else.
    """
    items = device if isinstance(device, (list, tuple)) else [device]
    text = ",".join(str(item) for item in items).lower().replace(" ", "").strip("[]()").rstrip(",")
    text = "0" if text == "cuda" else text.replace("cuda:", "")
    if text != "mps" and not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*|cpu(,cpu)*", text):
        raise ValueError
    if "cpu" not in text and len(set(text.split(","))) < len(text.split(",")):
        raise ValueError("; a GPU is listed twice")
    return text


def usable_cores() -> int:
    """Return the CPU cores this process may use; containers often have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checks() -> dict[str, str]:
    """Log and return versions, processor, memory, disk, GPUs and packages; include it in bug reports."""
    info = {
        "ultralytics": f"{__version__} ({PACKAGE_ROOT})", "Python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processor": f"{platform.processor() or platform.machine()}, {usable_cores()} usable cores",
        "free disk": f"{shutil.disk_usage(os.getcwd()).free / GIB:.1f} GB",
    }  # fmt: skip
    if hasattr(os, "sysconf"):  # not on Windows
        info["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GB"
    for package in PACKAGES:
        try:
            info[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            info[package] = "not installed"
    if info["torch"] != "not installed":
        import torch

        info["GPU"] = "none available to torch; use device=cpu"
        if torch.cuda.is_available():
            cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
            names = [f"{i}: {card.name}, {card.total_memory / GIB:.1f} GB" for i, card in enumerate(cards)]
            info["GPU"] = f"{'; '.join(names)} (CUDA {torch.version.cuda})"
        elif torch.backends.mps.is_available():
            info["GPU"] = "Apple silicon; use device=mps"
    setup_logging()
    width = max(map(len, info))
    LOGGER.info("\n".join(f"{name:<{width}}  {value}" for name, value in info.items()))
    installed = {f"{d.version} in {d.locate_file('')}" for d in metadata.distributions(name="ultralytics")}
    if len(installed) > 1:
        LOGGER.warning(
            f"several packages named ultralytics are installed: {', '.join(sorted(installed))}; {PACKAGE_ROOT} is "
            "imported. Remove the others: pip uninstall ultralytics, then pip install -e . in this repository"
        )
    return info


__getattr__ = public_names(__name__)
