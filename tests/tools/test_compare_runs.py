import pytest

from tests.golden.detections import CASES, matched
from ultralytics.metrics.summary_table import SummaryTable
from ultralytics.tools.compare_runs import compare_runs
from ultralytics.utils.tables import read_csv


@pytest.fixture
def runs(tmp_path):
    """Two validations of the reference detections: cases 2 and 0, of models of 10 and 12.5 million parameters."""
    facts = [
        {"name": "base", "parameters": 10_000_000, "gflops": 30.0, "file_bytes": 1},
        {"name": "mine", "parameters": 12_500_000, "gflops": None, "file_bytes": None},
    ]
    for name, case, fact in zip(("val", "val2"), (CASES[2], CASES[0]), facts, strict=True):
        metrics = matched(case)[0]
        metrics.data = ("my.yaml", "val", "0123456789ab")
        SummaryTable.build(metrics, imgsz=640, **fact).save(tmp_path / "runs" / name)
    return tmp_path / "runs"


def test_rows_are_runs_and_differences_are_to_the_first(runs):
    table = compare_runs([runs / "val", runs / "val2" / "summary_table.csv"])
    first, second = (dict(zip(table.titles, row, strict=True)) for row in table.rows)
    assert [first[key] for key in ("Run", "Model", "Data", "Split", "GFLOPs")] == ["val", "base", "my.yaml", "val", 30]
    assert (second["Run"], second["Params (M)"], second["GFLOPs"]) == ("val2", 12.5, None)
    assert first["mAP50"] == pytest.approx(CASES[2]["map50"], abs=1e-9) and first["diff. mAP50"] is None
    assert second["mAP50-95"] == pytest.approx(CASES[0]["map"], abs=1e-9)
    assert second["diff. mAP50-95"] == pytest.approx(CASES[0]["map"] - CASES[2]["map"], abs=1e-9)
    cells = dict(zip(table.titles, table.cells[1], strict=True))
    assert cells["diff. mAP50"][0] in "+-" and cells["GFLOPs"] == "-"


def test_the_command_writes_four_files(yolo, runs, tmp_path):
    assert "baseline" in yolo("table", "runs/val", "runs/val2", "names=baseline,a_b & c")
    folder = tmp_path / "runs/table/ablation"
    assert sorted(f.name for f in folder.iterdir()) == [f"ablation.{s}" for s in ("csv", "md", "tex", "txt")]
    assert [row["Run"] for row in read_csv(folder / "ablation.csv")] == ["baseline", "a_b & c"]
    assert r"a\_b \& c & mine" in (folder / "ablation.tex").read_text()
    yolo("table", "runs/val")
    assert (tmp_path / "runs/table/ablation2").is_dir()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("Size (px)", "320", "Size (px): val 640, val2 320"),
        ("Split", "test", "Split: val val, val2 test"),
        ("Fingerprint", "ffff456789ab", "Fingerprint: val 0123456789ab, val2 ffff456789ab"),
        ("Fingerprint", "", "a table has no fingerprint of its data; validate again"),
        ("Data", "copy.yaml", None),
    ],
)
def test_unequal_conditions_are_not_subtracted(yolo, runs, column, value, message):
    file = runs / "val2" / "summary_table.csv"
    rows = [row | {column: value} for row in read_csv(file)]
    text = "\n".join(",".join(cells) for cells in ([*rows[0]], *(row.values() for row in rows)))
    file.write_text(text + "\n")
    text = yolo("table", "runs/val", "runs/val2", code=2 if message else 0)
    assert not message or message in text
    text = yolo("table", "runs/val", "runs/val2", "diff=False")
    assert "+0." not in text and "-0." not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "yolo table: runs= is missing"),
        (("runs/none",), "runs/none: no summary_table.csv in it; expected the folder of a validation"),
        (("runs",), "runs: no summary_table.csv in it; expected the folder of a validation"),
        (("wrong.csv",), "wrong.csv: no column 'Model'; expected a summary_table.csv"),
    ],
)
def test_errors(refused, runs, tmp_path, words, message):
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    assert message in refused("table", *words)


def test_a_table_with_words_for_numbers(refused, runs):
    file = runs / "val" / "summary_table.csv"
    file.write_text(file.read_text().replace(",30.0,", ",thirty,"))
    text = refused("table", "runs/val")
    assert "expected numbers in its first row" in text and "thirty" in text
