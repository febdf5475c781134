"""Version, logger and paths, which all layers share. Importing this imports no torch."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

__version__ = "0.1.0"

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
ASSETS = PACKAGE_ROOT / "assets"  # two sample images
LOGGER = logging.getLogger("ultralytics")


def __getattr__(name: str) -> object:
    if name == "RANK":  # a public name of the published package; read at access, so that importing has no effect
        return int(os.environ.get("RANK", -1))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def cache_dir() -> Path:
    """Return the folder of generated and downloaded datasets: $ULTRALYTICS_CACHE, or ~/.cache/ultralytics."""
    return Path(os.environ.get("ULTRALYTICS_CACHE") or Path.home() / ".cache" / "ultralytics")


def setup_logging(verbose: bool = True) -> None:
    """Log messages of the package to the terminal as plain lines. Only entry points call this."""
    if not LOGGER.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOGGER.addHandler(handler)
        LOGGER.propagate = False
    LOGGER.setLevel(logging.INFO if verbose else logging.WARNING)


class IterableSimpleNamespace(SimpleNamespace):
    """Namespace that iterates over (name, value) pairs; published checkpoints store their options in one."""

    def __iter__(self) -> Iterator[tuple[str, object]]:
        return iter(vars(self).items())

    def get(self, key: str, default: object = None) -> object:
        """Return the value of an attribute, or `default`."""
        return vars(self).get(key, default)


COLORS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
CODES = {
    **{name: f"\033[{30 + number}m" for number, name in enumerate(COLORS)},
    **{f"bright_{name}": f"\033[{90 + number}m" for number, name in enumerate(COLORS)},
    "bold": "\033[1m",
    "underline": "\033[4m",
}


def colorstr(*words: str) -> str:
    """Return the last word in the colors and styles of the words before it; blue and bold by default.

    Raises KeyError for an unknown color.

    Examples:
        >>> colorstr("red", "bold", "error")
        '\\x1b[31m\\x1b[1merror\\x1b[0m'
    """
    *styles, text = words if len(words) > 1 else ("blue", "bold", *words)
    return "".join(CODES[style] for style in styles) + f"{text}\033[0m"
