"""Version, logger and paths, which all layers share. Importing this imports no torch."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

from ultralytics.utils.public import public_names

__version__ = "8.4.190+modules.0.2"  # the published interface, and this package (PEP 440)

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
ASSETS = PACKAGE_ROOT / "assets"  # two sample images, by the published names
LOGGER = logging.getLogger("ultralytics")
LEVELS = SimpleNamespace(own=logging.INFO, least=logging.INFO)  # of the log: set here, and by a script
LINE_SECONDS = 30.0  # between lines on progress where no bar is shown: with batches of as long, one a minute
T = TypeVar("T")


def cache_dir() -> Path:
    """Return the folder of generated and downloaded datasets: $ULTRALYTICS_CACHE, or ~/.cache/ultralytics."""
    return Path(os.environ.get("ULTRALYTICS_CACHE") or Path.home() / ".cache" / "ultralytics")


class TerminalHandler(logging.StreamHandler):
    """Write warnings and errors to stderr and other lines to stdout, as these are now; escape what they cannot show.

    Nothing is written where the program that imports the package has configured logging itself.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if LOGGER.propagate and logging.getLogger().handlers:
            return
        self.stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return super().format(record).encode(encoding, "backslashreplace").decode(encoding)


def setup_logging(verbose: bool = True) -> None:
    """Log messages of the package, not of Pillow, to the terminal as plain lines. Only entry points call this.

    A level that a script sets, `LOGGER.setLevel(logging.ERROR)`, stays.
    """
    if not LOGGER.handlers:
        LOGGER.addHandler(TerminalHandler())
    if any(isinstance(handler, TerminalHandler) for handler in LOGGER.handlers):
        LOGGER.propagate = False
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on sizes and metadata, which data/images.py checks itself
    if LOGGER.level != LEVELS.own:  # a script has set it
        LEVELS.least = LOGGER.level
    LEVELS.own = max(LEVELS.least, logging.INFO if verbose else logging.WARNING)
    LOGGER.setLevel(LEVELS.own)


LOGGER.addHandler(TerminalHandler())
LOGGER.setLevel(logging.INFO)


def progress(
    items: Iterable[T], text: str, total: int | None = None, *, shown: bool = True, delay: float = 0
) -> Iterator[T]:
    """Yield items under a progress bar in a terminal or notebook; elsewhere log a line at least every minute."""
    from tqdm.auto import tqdm

    bar = tqdm(items, text, total, leave=False, delay=delay, disable=None if shown else True)
    last = time.perf_counter()
    for done, item in enumerate(bar, 1):
        yield item
        if shown and bar.disable and time.perf_counter() - last >= LINE_SECONDS:
            last = time.perf_counter()
            LOGGER.info(f"{text}: {done}/{bar.total}")


@contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Skip log lines up to a level in a block."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


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
    "bold": "\033[1m", "underline": "\033[4m",
}  # fmt: skip


def colorstr(*words: str) -> str:
    """Return the last word in the colors and styles of the words before it; blue and bold by default.

    Raises KeyError for an unknown color.

    Examples:
        >>> colorstr("red", "bold", "error")
        '\\x1b[31m\\x1b[1merror\\x1b[0m'
    """
    *styles, text = words if len(words) > 1 else ("blue", "bold", *words)
    return "".join(CODES[style] for style in styles) + f"{text}\033[0m"


__getattr__ = public_names(__name__)
