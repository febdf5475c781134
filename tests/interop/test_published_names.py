"""Names at the places of the published package: each leads to the one that is defined here, or to an explanation."""

import importlib
import subprocess
import sys

import pytest

from ultralytics.utils.public import ABSENT, PLACES

NAMES = [
    (place, name.rpartition(":")[2]) for place, homes in PLACES.items() for s in homes.values() for name in s.split()
]
REFUSED = (
    ("ultralytics", "SAM"), ("ultralytics", "YOLOWorld"), ("ultralytics", "solutions"), ("ultralytics", "hub"),
    ("ultralytics.solutions", "ObjectCounter"), ("ultralytics.trackers", "register_tracker"),
    ("ultralytics.models", "SAM"),
    ("ultralytics.models.yolo", "segment"), ("ultralytics.models.yolo.pose", "PosePredictor"),
    ("ultralytics.models.sam", "Predictor"), ("ultralytics.nn.modules", "Segment"),
    ("ultralytics.nn.tasks", "SegmentationModel"), ("ultralytics.engine.results", "Masks"),
    ("ultralytics.utils.loss", "v8SegmentationLoss"), ("ultralytics.utils.metrics", "SegmentMetrics"),
    ("ultralytics.data.augment", "Format"),
)  # fmt: skip


def module_of(place: str) -> str:
    return f"ultralytics.{place}".rstrip(".")


@pytest.mark.parametrize(("place", "name"), NAMES)
def test_each_name_leads_to_its_definition(place, name):
    assert getattr(importlib.import_module(module_of(place)), name, None) is not None


@pytest.mark.parametrize(("module", "name"), REFUSED)
def test_what_is_not_built_is_refused_at_the_import_with_what_to_use(module, name):
    with pytest.raises(ImportError, match=rf"{module}\.{name}: .*\b(use|choose|compare|give|with|detects)\b"):
        exec(f"from {module} import {name}", {})


def test_a_misspelled_name_is_an_ordinary_import_error():
    with pytest.raises(ImportError, match="cannot import name 'LetterBoxx'"):
        exec("from ultralytics.data.augment import LetterBoxx", {})
    assert not hasattr(importlib.import_module("ultralytics.utils"), "nothing")
    assert not ABSENT.keys() & {name for _, name in NAMES}


@pytest.mark.parametrize(
    "statement", ["DEFAULT_CFG, SETTINGS, YAML, TryExcept, MACOS", "yaml_load, threaded, RUNS_DIR"]
)
def test_names_without_tensors_need_no_torch(statement):
    script = f"from ultralytics.utils import {statement}\nimport sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
