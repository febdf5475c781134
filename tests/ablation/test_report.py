"""report.html in a real browser (skipped without chromium), and table.tex in a document (skipped without LaTeX)."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from ultralytics.ablation.analysis import Analysis
from ultralytics.ablation.report import CHECK, build_page
from ultralytics.ablation.study import StudySpec
from ultralytics.metrics.html import document, section
from ultralytics.utils.plotting import new_figure, save_figure
from ultralytics.utils.tables import BEST, SECOND, Column, Table

LATEX = shutil.which("pdflatex") or shutil.which("tectonic")
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


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_the_table_of_a_study_fits_1200_pixels(tmp_path):
    texts = ("Params (M)", "GFLOPs", "Runs", "mAP50-95", "±", "mAP50", "coco APs", "coco APm", "coco APl", "diff.")
    columns = [
        Column("Cell"),
        *(Column(text, ".4g") for text in texts),
        *map(Column, ("interval", "p (Holm)", "Verdict")),
    ]
    row = ["EfficientViT-M0 + EMA", 30.02, 30.02, 20, *[0.265] * 7, "[-0.132, -0.067]", "0.016", "not shown: 3 pairs"]
    table = Table(columns, [row])
    script = (
        "<script>const d = document.querySelector('.wide')\ndocument.title = d.scrollWidth - d.clientWidth</script>"
    )
    (tmp_path / "wide.html").write_text(document("", "en", section("Results", table) + script))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,800", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'browser'}", (tmp_path / "wide.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "<title>0</title>" in done.stdout


@pytest.mark.skipif(not LATEX, reason="no LaTeX")
def test_the_table_compiles_as_it_is(tmp_path):
    columns = [*TABLE.columns, Column("A & B_c"), Column("±", ".3f")]
    rows = [(*row, CHECK, 0.01) for row in TABLE.rows]
    table = Table(columns, rows, {(3, 1): BEST, (0, 1): SECOND}).latex("p ≤ 0.05, mean ± std of 5 % #1.", "tab:a")
    text = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + table + "\n\\end{document}"
    (tmp_path / "paper.tex").write_text(text)
    options = ["-interaction=nonstopmode", "-halt-on-error"] if LATEX.endswith("pdflatex") else []
    done = subprocess.run([LATEX, *options, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and (tmp_path / "paper.pdf").exists(), done.stdout[-2000:]
