import csv
import io
import shutil
import subprocess

import pytest

from ultralytics.utils.errors import UserError
from ultralytics.utils.tables import Column, Table, escape_latex, read_csv

TABLE = Table(
    (Column("Name"), Column("n", "d"), Column("AP", ".3f")), [("a|b_c", 3, 0.12345), ("cat", None, float("nan"))]
)


def test_text_is_in_columns_of_equal_width():
    assert TABLE.text().splitlines() == ["Name   n     AP", "a|b_c  3  0.123", "cat    -      -"]
    # Chinese characters are two columns wide
    table = Table((Column("类别"), Column("P", ".1f")), [("安全帽", 0.5), ("ab", 1.0)])
    assert table.text().splitlines() == ["类别      P", "安全帽  0.5", "ab      1.0"]


def test_long_names_are_cut_on_a_terminal_only():
    table = Table((Column("Class"), Column("P", ".1f")), [("a" * 20 + "b" * 300 + "c" * 20, 0.5)])
    assert table.text().splitlines()[1] == "a" * 20 + "..." + "c" * 17 + "  0.5"
    assert all("b" * 300 in text for text in (table.csv(), table.markdown(), table.latex("", "")))


def test_markdown_escapes_what_would_end_a_cell():
    assert TABLE.markdown().splitlines() == [
        "| Name | n | AP |", "| --- | ---: | ---: |", r"| a\|b_c | 3 | 0.123 |", "| cat | - | - |",
    ]  # fmt: skip


def test_csv_has_the_numbers_in_full_and_absent_ones_empty():
    assert list(csv.reader(io.StringIO(TABLE.csv()))) == [
        ["Name", "n", "AP"],
        ["a|b_c", "3", "0.12345"],
        ["cat", "", ""],
    ]


def test_latex_has_rules_and_a_label_without_spaces():
    text = TABLE.latex("50% of a_b", "tab:my table")
    assert r"\caption{50\% of a\_b}" in text and r"\label{tab:my-table}" in text and r"\begin{tabular}{lrr}" in text
    assert r"    a\textbar{}b\_c & 3 & 0.123 \\" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert escape_latex("traffic light 2 a\\b") == r"traffic light 2 a\textbackslash{}b"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_names_of_any_sign_compile(tmp_path):
    names = [r"50% & $x_1^2$ #{a}~b \ <c> | `d' \"e\"", "line\nbreak", "Straße"]
    text = Table((Column("Class"), Column("P", ".3f")), [(name, 0.5) for name in names]).latex(names[0], names[0])
    head = "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{head}{text}\n\\end{{document}}\n", encoding="utf-8")
    run = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000


def test_read_csv_takes_padded_headings_and_refuses_what_is_none(tmp_path):
    file = tmp_path / "results.csv"
    file.write_text("   epoch,   train/giou_loss\n       1,     0.5\n")
    assert read_csv(file) == [{"epoch": "1", "train/giou_loss": "0.5"}]
    file.write_text("epoch\n")
    with pytest.raises(UserError, match="has no rows"):
        read_csv(file)
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        read_csv(tmp_path / "none.csv")


def test_html_is_escaped():
    table = Table([Column("a<b"), Column("n", ".2f")], [["x & y", 1.25], ["", None]])
    assert table.html() == (
        '<table><thead><tr><th style="text-align: left">a&lt;b</th><th style="text-align: right">n</th></tr></thead>'
        '<tbody><tr><td style="text-align: left">x &amp; y</td>'
        '<td data-value="1.25" style="text-align: right">1.25</td></tr>'
        '<tr><td style="text-align: left"></td><td data-value="" style="text-align: right">-</td></tr></tbody>'
        "</table>"
    )
