import json
import shutil
from pathlib import Path

import pytest

from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.tools.model_table import measure_models
from ultralytics.utils.errors import DataError
from ultralytics.utils.tables import read_csv

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rtdetr_models.json").read_text())


def compare_with_reference(rows) -> int:
    """Parameters and GFLOPs of the models that the reference numbers have; returns how many those are."""
    seen = [(GOLDEN[Path(row[0]).name], row) for row in rows if Path(row[0]).name in GOLDEN]
    for reference, row in seen:
        assert round(row[2] * 1e6) == reference["n_params"]
        assert row[3] == pytest.approx(reference["gflops_thop_640"], rel=1e-5)
    return len(seen)


def test_sorted_with_reasons_for_those_that_cannot_be_built(yolo, tmp_path, model_file):
    folder = tmp_path / "my-models"
    (folder / "old").mkdir(parents=True)
    name = "rtdetr-efficientvit-m0.yaml"
    shutil.copy(MODELS_DIR / "rt-detr" / name, folder / "old" / name)
    shutil.copy(model_file, folder / "tiny.yaml")
    (folder / "typo.yaml").write_text(
        "nc: 2\nbackbone:\n  - [-1, 1, Cnov, [16, 3, 2]]\nhead:\n  - [[0], 1, Detect, [nc]]\n"
    )
    (folder / "data.yml").write_text("train: images\nnames: [cat]\n")
    text = yolo("models", f"folder={folder}", "sort=gflops")
    assert "2 models at 640 px, 2 that cannot be built" in text
    target = tmp_path / "runs/models/my-models"
    rows = [tuple(row.values()) for row in read_csv(target / "models.csv")]
    assert [row[0] for row in rows] == ["tiny", "old/rtdetr-efficientvit-m0"]
    assert compare_with_reference([(row[0], *map(float, row[1:])) for row in rows]) == 1
    failures = {row["Model"]: row["Reason"] for row in read_csv(target / "failures.csv")}
    assert "no module 'Cnov'; did you mean 'Conv'?" in failures["typo.yaml"] and "data.yml" in failures
    assert all(reason in text for reason in failures.values())


@pytest.mark.slow
def test_every_model_of_the_package_can_be_built():
    table, failures = measure_models(MODELS_DIR)
    assert not failures.rows and len(table.rows) == len(list(MODELS_DIR.rglob("*.yaml")))
    assert compare_with_reference(table.rows) == len(GOLDEN)


def test_a_folder_without_models(tmp_path):
    with pytest.raises(DataError, match=r"no \.yaml files"):
        measure_models(tmp_path / "none")
