"""HTML pages of one file without anything from elsewhere, for a browser, a phone and a printer."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ultralytics.utils.tables import Table

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 96rem; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #8885; white-space: nowrap; }
th { cursor: pointer; border-bottom: 2px solid; white-space: normal; word-break: keep-all; vertical-align: bottom; }
th[aria-sort=ascending]::after { content: " ▲"; } th[aria-sort=descending]::after { content: " ▼"; }
td:last-child:not([data-value]) { white-space: normal; min-width: 9rem; }
td:first-child, th:first-child { position: sticky; left: 0; background: Canvas; white-space: normal; min-width: 5rem; }
figure { margin: 0; max-width: 60rem; }
img { max-width: 100%; height: auto; background: white; } .wide img { min-width: 40rem; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid #8885; font-size: .85rem; }
.note { font-size: .9rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 1rem .8rem; }
.gallery figure { font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; } .gallery img { display: block; }
@media print {
  body { max-width: none; font-size: 10pt; } .wide { overflow: visible; } figure, table { break-inside: avoid; }
}
"""
SCRIPT = """
document.querySelectorAll("th").forEach(head => head.addEventListener("click", () => {
  const table = head.closest("table"), column = [...head.parentNode.children].indexOf(head);
  const rises = head.getAttribute("aria-sort") !== "ascending";
  const value = row => row.children[column].dataset.value ?? row.children[column].textContent;
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)], [m, n] = [Number(x), Number(y)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(m) || isNaN(n) ? x.localeCompare(y) : m - n;
    return rises ? order : -order;
  });
  table.tBodies[0].append(...rows);
  table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rises ? "ascending" : "descending");
}));
document.querySelectorAll("button").forEach(button => button.addEventListener("click", () => {
  const grid = button.closest("section").querySelector(".gallery");
  const value = cell => cell.dataset.values.split(" ")[button.dataset.place];
  grid.append(...[...grid.children].sort((a, b) => value(b) - value(a)));
}));
"""


def document(title: str, lang: str, body: str) -> str:
    """Return a page with its style and script; it loads nothing."""
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        """<meta http-equiv="Content-Security-Policy" content="default-src data: 'unsafe-inline'">\n"""
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def section(title: str, *content: str | Table | Path) -> str:
    """Return a title, and notes in HTML, sortable tables and pictures below it."""
    parts = [f"<h2>{escape(title)}</h2>"]
    for item in content:
        if isinstance(item, Table):
            parts.append(f'<div class="wide">{item.html()}</div>')
        else:
            tag = 'p class="note"' if isinstance(item, str) else 'figure class="wide"'
            parts.append(f"<{tag}>{item if isinstance(item, str) else picture(item, title)}</{tag.split()[0]}>")
    return "\n".join(parts)


def picture(source: Path | bytes, text: str) -> str:
    """Return an image in HTML that contains a PNG or JPEG file, or the bytes of a JPEG."""
    content = source if isinstance(source, bytes) else source.read_bytes()
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f'<img alt="{escape(text)}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'


def gallery(figures: Sequence[tuple[str, Sequence[float]]], keys: Sequence[str]) -> str:
    """Return a grid of figures in HTML, with their values, and a button for each key of the values to sort by it."""
    buttons = " ".join(f'<button data-place="{i}">{escape(key)}</button>' for i, key in enumerate(keys))
    cells = [f'<figure data-values="{" ".join(map(str, v))}">{content}</figure>' for content, v in figures]
    return f'<section><p class="note">Sort by {buttons}</p><div class="gallery">{"".join(cells)}</div></section>'
