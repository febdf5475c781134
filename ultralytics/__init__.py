"""RT-DETR and YOLO with swappable backbones and modules.

Public names are imported at first use: `from ultralytics import RTDETR` imports torch, `import ultralytics` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultralytics.utils.public import public_names

if TYPE_CHECKING:
    from ultralytics.models import RTDETR, YOLO
    from ultralytics.published.machine import fetch_all as download
    from ultralytics.utils import ASSETS, __version__
    from ultralytics.utils.checks import checks
    from ultralytics.utils.settings import SETTINGS as settings

__all__ = ["ASSETS", "RTDETR", "YOLO", "__version__", "checks", "download", "settings"]
__getattr__ = public_names(__name__)


def __dir__() -> list[str]:
    return __all__
