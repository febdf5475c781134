"""The documentation: the site builds without warnings, and both languages have the same structure."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.hooks import formats_table
from ultralytics.cfg.family import default_values
from ultralytics.cfg.options import MODES, describe_options
from ultralytics.losses.classification import CLASS_LOSSES
from ultralytics.nn.formats import export_formats

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page.name for page in (DOCS / "en").glob("*.md"))
PAIRS = [(ROOT / "README.md", ROOT / "README.zh-CN.md"), *((DOCS / "en" / page, DOCS / "zh" / page) for page in PAGES)]


def blocks(text: str) -> list[str]:
    return re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[str]:
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ ", without_code, re.MULTILINE)


def tables(text: str) -> list[tuple[int, int]]:
    """Return (rows, columns) of each table."""
    found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [(len(table.splitlines()), table.splitlines()[0].count("|")) for table in found]


def test_both_languages_have_the_same_pages():
    assert sorted(page.name for page in (DOCS / "zh").glob("*.md")) == PAGES


@pytest.mark.parametrize("files", PAIRS, ids=lambda files: files[0].name)
def test_both_languages_have_the_same_structure_and_no_broken_links(files):
    english, chinese = texts = [file.read_text(encoding="utf-8") for file in files]
    for part in (headings, blocks, tables):
        assert part(chinese) == part(english)
    for file, text in zip(files, texts, strict=True):
        targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
        assert not [target for target in targets if not (file.parent / target).exists()], file


def test_every_option_has_a_chinese_text():
    chinese = yaml.safe_load((DOCS / "zh" / "options.yaml").read_text(encoding="utf-8"))
    assert list(chinese["options"]) == [row.name for row in describe_options()]
    assert list(chinese["sections"]) == list(dict.fromkeys(row.section for row in describe_options()))


@pytest.mark.skipif(shutil.which("mkdocs") is None, reason='needs pip install -e ".[docs]"')
def test_the_site_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    for page in ("index.html", "options/index.html", "zh/options/index.html", "api/index.html"):
        assert (tmp_path / page).stat().st_size > 10_000, page


def test_every_option_is_described_once():
    rows = {row.name: row for row in describe_options()}
    assert list(rows) == list(default_values())
    assert all(row.section and row.meaning and set(row.modes) <= set(MODES) for row in rows.values())
    assert rows["conf"].modes == ("train", "val", "predict", "export")
    assert rows["patience"][:4] == ("Training", "patience", "{RT-DETR: 50, YOLO: 100}", ("train",))
    assert "1.25 times imgsz" in rows["multi_scale"].meaning
    assert "https://arxiv.org/abs/2409.08475" in rows["one_to_many"].meaning  # a continuation line
    assert all(f"{name}:" in rows["loss_class"].meaning for name in CLASS_LOSSES)


def test_pages_named_in_the_code_exist():
    files = [*(ROOT / "ultralytics").rglob("*.py"), *(ROOT / "ultralytics").rglob("*.yaml"), *ROOT.glob("*.py")]
    named = {page for file in files for page in re.findall(r"(?:docs|benchmarks)/[\w/-]+\.md", file.read_text("utf-8"))}
    assert named and not [page for page in named if not (ROOT / page).exists()]


def test_the_table_of_formats_is_generated_from_the_registry():
    english, chinese = formats_table("en"), formats_table("zh")
    row = "| `onnx` | `best.onnx` | yes | yes | yes | yes | yes | `pip install onnx onnxruntime` |"
    assert row in english.splitlines()
    assert tables(chinese) == tables(english) == [(len(export_formats()) + 2, 9)]
