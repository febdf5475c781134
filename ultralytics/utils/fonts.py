"""Fonts of this system: for each character one that has it, and escapes for those that none has."""

from __future__ import annotations

import unicodedata
from functools import cache
from itertools import groupby
from pathlib import Path

from PIL import ImageFont

from ultralytics.utils import LOGGER


def default_font() -> Path:
    """Return the file of DejaVu Sans (Latin, Greek, Cyrillic and more), which comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def drawable(text: str) -> str:
    """Replace characters that no font of the system has by escapes such as `\\u732b`, and line breaks by spaces."""
    shown = " ".join(text.split())
    return "".join(c if _find_font(c) else c.encode("unicode_escape").decode() for c in shown)


def tick_label(name: str, most: int = 24) -> str:
    """Return a class name for a figure, `drawable` and cut to so many characters."""
    shown = drawable(name)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def find_font_file(font: str | Path | None) -> Path | None:
    """Return the file of a font, by path or by name; None, with a warning, if this system has no such font."""
    from matplotlib.font_manager import findSystemFonts

    wanted = Path(font or "").stem.lower()
    files = (Path(font or ""), *(file for file in map(Path, findSystemFonts()) if file.stem.lower() == wanted))
    found = next((file for file in files if wanted and file.is_file() and _charmap(file)), None)
    if wanted not in ("", "arial") and not found:  # "Arial.ttf" is the default of the published package
        LOGGER.warning(f"font={str(font)!r}: no such font on this system; {default_font().name} is used")
    return found


@cache
def load_font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), size)


def font_runs(text: str, preferred: Path | None = None) -> list[tuple[str, Path]]:
    """Split a text into runs of characters with the same font, `preferred` where it has the character."""

    def choose(character: str) -> Path | None:
        return preferred if preferred and ord(character) in _charmap(preferred) else _find_font(character)

    return [("".join(run), font) for font, run in groupby(drawable(text), choose)]


@cache
def _find_font(character: str) -> Path | None:
    """Find a font with a character, the default first; None, with a warning, if the system has none."""
    from matplotlib.font_manager import findSystemFonts

    if character.isspace():  # a line break has no glyph
        return default_font()
    for file in (default_font(), *sorted(map(Path, findSystemFonts()))):
        if ord(character) in _charmap(file):
            return file
    if character != "\u4e2d" and unicodedata.name(character, "").startswith("CJK") and not _find_font("\u4e2d"):
        return None  # one warning for all Chinese characters
    hint = "Install a font, for example `apt install fonts-noto-cjk`."
    LOGGER.warning(f"plots: no font on this system can draw {character!r}; an escape is drawn instead. {hint}")
    return None


@cache
def _charmap(file: Path) -> frozenset[int]:
    """Return the code points of a font file; none for a broken font of the system."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(file)).get_charmap())
    except RuntimeError:
        return frozenset()
