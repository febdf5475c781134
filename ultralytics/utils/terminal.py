"""Colours and styles of a terminal."""

from __future__ import annotations

from types import MappingProxyType

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
