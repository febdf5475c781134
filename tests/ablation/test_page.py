"""report.html in a real browser (skipped without chromium)."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from ultralytics.ablation.analysis import Analysis
from ultralytics.ablation.page import build_page
from ultralytics.ablation.study import StudySpec
from ultralytics.utils.plotting import new_figure, save_figure
from ultralytics.utils.tables import Column, Table

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TABLE = Table(
    [Column("Cell"), Column("mAP", ".1f"), Column("Verdict")],
    [("base", 0.51, ""), ("b & <c>", -0.52, "worse"), ("a", float("nan"), "not shown"), ("d", 10.0, "better")],
)
# clicks on titles; the order of the rows after each click, and what was requested, become the title of the page
PROBE = """<script>
const names = () => [...document.querySelectorAll("tbody tr")].map(row => row.cells[0].textContent);
const orders = [1, 1, 0].map(i => (document.querySelectorAll("th")[i].click(), names()));
const loaded = performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 5));
const overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.title = JSON.stringify({orders, loaded, overflow, images: [...document.images].map(i => i.complete)});
</script></body>"""


@pytest.mark.skipif(not BROWSER, reason="no chromium")
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_sorts_and_loads_nothing(tmp_path, lang):
    spec = StudySpec.read({"model": "rtdetr-r18.yaml", "data": "shapes8.yaml", "lang": lang})
    figure = save_figure(new_figure(12, 3), tmp_path / "curves.png")
    page = build_page(Analysis(spec, [], ["a note"]), {"table": TABLE}, {"curves": figure}, {"torch": "2"})
    file = tmp_path / "report.html"
    file.write_text(page.replace("</body>", PROBE))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,800", "--dump-dom"]
    command += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'browser'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = json.loads(unescape(re.search("<title>(.*?)</title>", done.stdout)[1]))
    assert found["orders"] == [
        ["b & <c>", "base", "d", "a"], ["d", "base", "b & <c>", "a"], ["a", "b & <c>", "base", "d"],
    ]  # fmt: skip
    assert set(found["loaded"]) <= {"data:"} and found["images"] == [True]
    assert found["overflow"] <= 0  # a phone scrolls the table, not the page
    assert "CONSOLE" not in done.stderr, done.stderr
