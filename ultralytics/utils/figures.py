"""Matplotlib figures without its global state, and with class names in any script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.utils.fonts import drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches. Matplotlib is imported here: it is slow, and few runs draw."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure. Texts are taken literally ($ starts no formula) and drawn in a font that has their characters.

    Class names must have passed through `drawable`: a tick label gets its text anew whenever the figure is drawn.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        if not text.get_text().isascii():
            file = drawable(text.get_text())[1]
            text.set_fontproperties(FontProperties(fname=str(file), size=text.get_size()))
    figure.savefig(path, dpi=150)
    return path
