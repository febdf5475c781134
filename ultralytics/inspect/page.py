"""The picture of a model as a page that shows the details of the layer under the pointer. It needs nothing else."""

from __future__ import annotations

import json
from html import escape

from ultralytics.inspect.svg import details
from ultralytics.nn.summary import Inspection

STYLE = """
body { margin: 0; font: 14px/1.45 system-ui, "DejaVu Sans", Verdana, Arial, sans-serif; color: #1a1a1a; }
main { padding: 12px 16px; }
h1 { font-size: 18px; margin: 0 0 4px; }
.graph { overflow-x: auto; border: 1px solid #d5d9df; }
.graph.fit svg { width: 100%; height: auto; }
.node { cursor: pointer; outline: none; }
.node.chosen rect { stroke-width: 3; }
.node.reads rect { stroke: #0060a8; stroke-width: 3; }
.node.readers rect { stroke: #a83c00; stroke-width: 3; }
.chosen-one .node:not(.chosen, .reads, .readers), .chosen-one .edge:not(.reads, .readers) { opacity: 0.3; }
.edge.reads path { stroke: #0060a8; stroke-width: 3; }
.edge.reads polygon { fill: #0060a8; }
.edge.readers path { stroke: #a83c00; stroke-width: 3; }
.edge.readers polygon { fill: #a83c00; }
#card { position: fixed; max-width: 420px; padding: 8px 12px; background: #fff; border: 1px solid #4a5a70;
  border-radius: 6px; box-shadow: 0 2px 8px rgb(0 0 0 / 0.25); pointer-events: none; }
#card[hidden] { display: none; }
#card dl { display: grid; grid-template-columns: auto 1fr; gap: 1px 12px; margin: 0; }
#card dt { color: #4a4a4a; }
#card dd { margin: 0; overflow-wrap: anywhere; }
.in { color: #0060a8; } .out { color: #a83c00; }
"""

SCRIPT = """
const details = JSON.parse(document.getElementById("details").textContent);
const graph = document.querySelector(".graph"), card = document.getElementById("card");
const nodes = new Map([...document.querySelectorAll(".node")].map(node => [node.dataset.position, node]));
const edges = [...document.querySelectorAll(".edge")];

for (const node of nodes.values()) {          // the card takes the place of the browser's own tooltip
  const title = node.querySelector("title");
  if (title) { node.setAttribute("aria-label", title.textContent); title.remove(); }
}
function clear() {
  graph.classList.remove("chosen-one");
  for (const part of [...nodes.values(), ...edges]) part.classList.remove("chosen", "reads", "readers");
  card.hidden = true;
}
function show(node) {
  clear();
  const position = node.dataset.position;
  graph.classList.add("chosen-one");
  node.classList.add("chosen");
  for (const edge of edges) {
    const { source, target } = edge.dataset;
    if (target === position) { edge.classList.add("reads"); nodes.get(source).classList.add("reads"); }
    if (source === position) { edge.classList.add("readers"); nodes.get(target).classList.add("readers"); }
  }
  if (!details[position]) return;
  const list = document.createElement("dl");
  for (const [name, value] of details[position]) {
    list.append(Object.assign(document.createElement("dt"), { textContent: name }),
                Object.assign(document.createElement("dd"), { textContent: value }));
  }
  card.replaceChildren(list);
  card.hidden = false;
  // Below the graph, or above it where there is no room: over it, the card would hide the neighbours it speaks of.
  const box = node.getBoundingClientRect(), area = graph.getBoundingClientRect();
  const width = card.offsetWidth, height = card.offsetHeight;
  const below = area.bottom + 8 + height <= window.innerHeight, above = area.top >= height + 8;
  card.style.left = Math.max(4, Math.min(box.left, window.innerWidth - width - 4)) + "px";
  card.style.top = (below ? area.bottom + 8 : above ? area.top - height - 8 : window.innerHeight - height - 4) + "px";
}
for (const node of nodes.values()) {
  node.addEventListener("pointerenter", () => show(node));
  node.addEventListener("focus", () => show(node));
  node.addEventListener("pointerleave", clear);
  node.addEventListener("blur", clear);
}
document.addEventListener("keydown", event => { if (event.key === "Escape") clear(); });
const fit = document.getElementById("fit");
fit.addEventListener("change", () => graph.classList.toggle("fit", fit.checked));
if (graph.scrollWidth > graph.clientWidth) { fit.checked = true; graph.classList.add("fit"); }
"""


def page_text(svg: str, inspection: Inspection, title: str) -> str:
    """An HTML page around an SVG of `svg.py`."""
    data = json.dumps([details(row) for row in inspection.rows], ensure_ascii=False).replace("<", "\\u003c")
    warnings = "".join(f"<li>{escape(str(warning))}</li>" for warning in inspection.warnings)
    shown = f"<h2>Warnings</h2>\n<ul>{warnings}</ul>" if warnings else "<p>No warnings.</p>"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p>{len(inspection.rows)} rows, {escape(str(inspection.info))}. Point at a layer, or reach it with the Tab key: what it
<b class="in">reads</b> and what <b class="out">reads it</b> stand out.
<label><input type="checkbox" id="fit"> fit to the window</label></p>
<div class="graph">
{svg}</div>
{shown}
</main>
<div id="card" role="status" hidden></div>
<script type="application/json" id="details">{data}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""
