"""RT-DETR and YOLO with swappable backbones and modules.

Public names are imported at first use: `from ultralytics import RTDETR` imports torch, `import ultralytics` does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ultralytics.models import RTDETR, YOLO
    from ultralytics.utils import __version__
    from ultralytics.utils.checks import checks

__all__ = ["RTDETR", "YOLO", "__version__", "checks"]

_MODULES = {
    "RTDETR": "ultralytics.models",
    "YOLO": "ultralytics.models",
    "__version__": "ultralytics.utils",
    "checks": "ultralytics.utils.checks",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
