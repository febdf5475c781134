"""What every layer of the package shares: the logger, paths, and the namespace that published checkpoints name."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

__version__ = "0.1.0"

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
LOGGER = logging.getLogger("ultralytics")


def __getattr__(name: str) -> object:
    if name == "RANK":  # scripts import it; asked for each time, so that importing the package looks at nothing
        return int(os.environ.get("RANK", -1))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def cache_dir() -> Path:
    """Folder for generated and downloaded data sets: `$ULTRALYTICS_CACHE`, else `~/.cache/ultralytics`."""
    return Path(os.environ.get("ULTRALYTICS_CACHE") or Path.home() / ".cache" / "ultralytics")


def setup_logging(verbose: bool = True) -> None:
    """Let the package's messages reach the terminal as plain lines. The entry points call it; importing never does."""
    if not LOGGER.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOGGER.addHandler(handler)
        LOGGER.propagate = False
    LOGGER.setLevel(logging.INFO if verbose else logging.WARNING)


class IterableSimpleNamespace(SimpleNamespace):
    """Attributes that can be iterated as (name, value) pairs; published checkpoints keep their options in one."""

    def __iter__(self):
        return iter(vars(self).items())

    def get(self, key: str, default: object = None) -> object:
        """Value of an attribute, or `default`."""
        return vars(self).get(key, default)


COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
END = "\033[0m"
CODES = MappingProxyType(
    {
        **{name: f"\033[{30 + number}m" for number, name in enumerate(COLOURS)},
        **{f"bright_{name}": f"\033[{90 + number}m" for number, name in enumerate(COLOURS)},
        "bold": "\033[1m",
        "underline": "\033[4m",
    }
)


def colorstr(*words: str) -> str:
    """The last word in the colours and styles before it: `colorstr("red", "bold", "no")`; alone it is blue and bold.

    Raises KeyError for an unknown colour.
    """
    *styles, text = words if len(words) > 1 else ("blue", "bold", *words)
    return "".join(CODES[style] for style in styles) + f"{text}{END}"
