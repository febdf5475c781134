"""`yolo fork`: which model files of a repository build and run, and copies of those that do."""

from pathlib import Path

import pytest

from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.tools.fork_table import check_fork, group_by_cause
from ultralytics.utils.errors import DataError
from ultralytics.utils.tables import read_csv

FORK = Path(__file__).parents[1] / "nn" / "fork_repository"


def test_the_models_of_a_fork_and_what_the_others_need(yolo, tmp_path):
    text = yolo("fork", str(FORK), f"write={tmp_path / 'mine'}")
    assert "4 model files: 2 build, 1 run" in text
    assert "1 file: it needs the package 'einops' (pip install einops): rtdetr-ein.yaml" in text
    assert "1 file: no module 'NotInFork': rtdetr-lost.yaml" in text
    rows = {Path(row["Model"]).stem: row for row in read_csv(tmp_path / "runs/fork/fork_repository/models.csv")}
    assert {name: (row["Builds"], row["Forward"]) for name, row in rows.items()} == {
        "rtdetr-edge": ("yes", "yes"), "rtdetr-ein": ("no", "no"), "rtdetr-lost": ("no", "no"),
        "rtdetr-scan": ("yes", "no"),
    }  # fmt: skip
    copies = sorted(tmp_path.glob("mine/*.yaml"))
    assert [copy.name for copy in copies] == ["rtdetr-edge.yaml", "rtdetr-scan.yaml"]
    network = RTDETRDetectionModel(copies[0])  # without further folders
    assert sum(p.numel() for p in network.parameters()) == int(rows["rtdetr-edge"]["Parameters"])
    assert network.model[2].type.endswith("Blocks") and "EdgeConv" in str(network.model[2])


def test_from_python(tmp_path):
    models = check_fork(FORK, imgsz=320)
    assert sum(model.runs for model in models) == 1
    assert [len(files) for files in group_by_cause(models).values()] == [1, 1, 1]
    with pytest.raises(DataError, match="no model files; expected YAML files with the keys `backbone` and `head`"):
        check_fork(tmp_path)
