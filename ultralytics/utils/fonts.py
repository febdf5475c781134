"""Fonts for class names in any script: the one matplotlib brings, else one of the system that has the characters."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont

from ultralytics.utils import LOGGER


@cache
def _charmap(file: Path) -> frozenset[int]:
    """Code points a font file can draw; empty for a font that cannot be opened."""
    from matplotlib.ft2font import FT2Font  # matplotlib is slow to import, and most names need no search

    try:
        return frozenset(FT2Font(str(file)).get_charmap())
    except RuntimeError:  # a broken font of the system is not our user's problem
        return frozenset()


def default_font() -> Path:
    """DejaVu Sans: Latin, Greek, Cyrillic and more. It comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _font_with(characters: frozenset[str]) -> Path | None:
    """A font with all the characters, the default one first; None, said once, where the system has none."""
    wanted = {ord(character) for character in characters}
    if wanted <= _charmap(default_font()):
        return default_font()
    from matplotlib.font_manager import findSystemFonts

    for file in sorted(map(Path, findSystemFonts())):
        if wanted <= _charmap(file):
            return file
    LOGGER.warning(
        f"plots: no font on this system can draw {''.join(sorted(characters))!r}; its characters are written as "
        "escapes. Install one, for example `apt install fonts-noto-cjk`."
    )
    return None


def drawable(text: str) -> tuple[str, Path]:
    """The text and a font that can draw it; characters no font has become escapes such as `\\u732b`."""
    special = frozenset(character for character in text if not character.isascii())
    font = _font_with(special) if special else default_font()
    if font is None:
        return text.encode("ascii", "backslashreplace").decode(), default_font()
    return text, font


@cache
def pil_font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    """A font file at a size in pixels."""
    return ImageFont.truetype(str(file), size)
