import csv
import shutil
import subprocess

import pytest

from tests.golden.detections import BY_CASE, CASES, matched
from ultralytics.metrics.summary_table import SummaryTable

FACTS = {"name": "my_model", "imgsz": 640, "batch": 4, "parameters": 12_345_678, "gflops": 30.02}
FACTS["file_bytes"] = 45_000_000


def measured(case: dict, speed: tuple[float, float, float] = (1.0, 8.0, 1.0)):
    metrics = matched(case)[0]
    metrics.speed = dict(zip(("preprocess", "inference", "postprocess"), speed, strict=True))
    return metrics


@BY_CASE
def test_numbers_of_classes_and_means_are_those_of_the_reference(case, tmp_path):
    """`case` has the means of the reference implementation, tests/golden/metrics_*.json."""
    metrics = measured(case)
    SummaryTable.build(metrics, **FACTS).save(tmp_path)
    with open(tmp_path / "summary_table.csv", newline="") as file:
        first, *rest = csv.DictReader(file)
    expected = {"P": "mp", "R": "mr", "mAP50": "map50", "mAP75": "map75", "mAP50-95": "map"}
    for title, key in expected.items():
        value = float(first[title] or "nan")
        assert value == pytest.approx(case[key], abs=1e-9, nan_ok=True), title
    assert first["Class"] == "all" and len(rest) == len(metrics.ap_class_index)
    for row, ap, f1 in zip(rest, metrics.box.ap75, metrics.box.f1, strict=True):
        assert float(row["mAP75"]) == pytest.approx(ap) and float(row["F1"]) == pytest.approx(f1)


def test_the_models_row_and_the_four_files(tmp_path):
    metrics = measured(CASES[2])
    table = SummaryTable.build(metrics, **FACTS)
    files = table.save(tmp_path)
    assert [file.name for file in files] == [f"summary_table.{s}" for s in ("txt", "md", "tex", "csv")]
    row = dict(zip(table.model.titles, table.model.cells[0], strict=True))
    assert row == {
        "Model": "my_model", "Size (px)": "640", "Batch": "4", "Params (M)": "12.346", "GFLOPs": "30.02",
        "Pre (ms)": "1.00", "Model (ms)": "8.00", "Post (ms)": "1.00", "FPS": "100.0", "FPS (model)": "125.0",
        "File (MB)": "45.0",
    }  # fmt: skip
    assert r"my\_model & 640 & 4 & 12.346" in files[2].read_text()
    assert "| my_model | 640 | 4 |" in files[1].read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_the_latex_file_compiles(tmp_path):
    metrics = measured(CASES[2])
    metrics.names = {index: f"50%_{index} & #{{x}}^2 <$>" for index in metrics.names}
    SummaryTable.build(metrics, **FACTS).save(tmp_path)
    head = "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "main.tex").write_text(head + "\\input{summary_table.tex}\n\\end{document}\n")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stdout[-2000:]


def test_what_is_not_known_is_a_dash_and_not_zero():
    facts = {"parameters": None, "gflops": None, "file_bytes": None}
    cells = SummaryTable.build(measured(CASES[2], (0, 0, 0)), **FACTS | facts).model.cells[0]
    assert cells[3:5] == ["-", "-"] and cells[8:] == ["-", "-", "-"]
