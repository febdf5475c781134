import math

import pytest

from ultralytics.data.images import read_image
from ultralytics.tools.common import find_runs
from ultralytics.tools.plot_runs import FILE, read_curves

OURS = (
    "epoch,time,train/giou_loss,metrics/mAP50(B),metrics/mAP50-95(B),val/giou_loss,lr/pg0\n"
    "1,3.2,1.5,0.1,0.05,1.4,0.01\n"
    "2,6,1.2,0.3,0.2,1.1,0.01\n"
)
# As the published package wrote it for a long time: padded on the left.
PADDED = """                  epoch,        train/giou_loss,       metrics/mAP50(B),    metrics/mAP50-95(B)
                      0,                0.61234,                0.20000,                0.10000
                      1,                0.51234,                    nan,
"""


@pytest.fixture
def runs(tmp_path):
    for name, text in {"a/train": OURS, "b/train": PADDED}.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "results.csv").write_text(text)
    return tmp_path


def test_padded_headings_and_cells_without_a_number(runs):
    curves = read_curves(runs / "b/train/results.csv")
    assert list(curves) == ["epoch", "train/giou_loss", "metrics/mAP50(B)", "metrics/mAP50-95(B)"]
    assert curves["epoch"] == [0, 1] and curves["train/giou_loss"] == [0.61234, 0.51234]
    assert curves["metrics/mAP50(B)"][0] == 0.2 and math.isnan(curves["metrics/mAP50(B)"][1])
    assert math.isnan(curves["metrics/mAP50-95(B)"][1])


def test_runs_are_named_so_that_they_differ(runs):
    assert list(find_runs([runs / "a/train", runs / "b/train/results.csv"], None, FILE, "")) == ["a/train", "b/train"]
    assert list(find_runs([runs / "a/train", runs / "b/train"], ["base", "mine"], FILE, "")) == ["base", "mine"]


def test_the_pictures(yolo, runs):
    text = yolo("plot-results", "a/train", "b/train", "names=base,改进")
    assert "metrics.png written" in text and "losses.png written" in text
    for name in ("metrics.png", "losses.png"):
        picture = read_image(runs / "runs/plot/results" / name)
        assert picture.std() > 5 and min(picture.shape[:2]) > 300
    yolo("plot-results", "runs=a/train,b/train", "project=out", "name=p")
    assert (runs / "out/p/metrics.png").is_file()


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (OURS, ("a/none",), "a/none: no results.csv in it; expected the folder of a training"),
        (OURS, (), "yolo plot-results: runs= is missing"),
        (OURS, ("a/train", "a/train"), "'train' is given twice"),
        (OURS, ("a/train", "names=x,y"), "names: expected 1, one for each run, got 2: x, y"),
        (OURS, ("a/train", "runs=b"), "runs: given twice, as runs= and as 'a/train'"),
        (OURS.replace("1.2", "1.2x"), ("a/train",), "could not convert string to float: '1.2x', expected numbers"),
        ("a,b\n1,2\n", ("a/train",), "expected columns epoch, and metrics/"),
        ("epoch,b\n1,2\n", ("a/train",), "expected columns epoch, and metrics/"),
        ("", ("a/train",), "has no rows"),
    ],
)
def test_errors(refused, runs, content, words, message):
    (runs / "a/train/results.csv").write_text(content)
    assert message in refused("plot-results", *words)
