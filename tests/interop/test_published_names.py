"""Published import statements, and names at any published place: each leads to its definition, or to an explanation."""

import importlib
import re
import subprocess
import sys

import pytest

from tests.interop.published_page import DOCS, STATEMENTS, page, refusal
from ultralytics.utils.public import ABSENT, HOMES, NAMES, TOP

REFUSED = (
    ("ultralytics", "SAM"), ("ultralytics", "YOLOWorld"), ("ultralytics", "solutions"), ("ultralytics", "hub"),
    ("ultralytics.solutions", "ObjectCounter"), ("ultralytics.trackers", "register_tracker"),
    ("ultralytics.models", "SAM"),
    ("ultralytics.models.yolo", "segment"), ("ultralytics.models.yolo.pose", "PosePredictor"),
    ("ultralytics.models.sam", "Predictor"), ("ultralytics.nn.modules", "Segment"),
    ("ultralytics.nn.tasks", "SegmentationModel"), ("ultralytics.engine.results", "Masks"),
    ("ultralytics.utils.loss", "v8SegmentationLoss"), ("ultralytics.utils.metrics", "SegmentMetrics"),
    ("ultralytics.data.augment", "RandomLoadText"),
)  # fmt: skip


@pytest.mark.parametrize("home", HOMES)
def test_each_name_leads_to_its_definition(home):
    for name in HOMES[home].split():
        found = getattr(importlib.import_module("ultralytics.utils.patches"), name.rpartition(":")[2])
        assert found == getattr(importlib.import_module(f"ultralytics.{home}"), name.partition(":")[0])


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_published_import(statement):
    if reason := refusal(statement):
        with pytest.raises(ImportError, match=re.escape(reason)):
            exec(statement, {})
    else:
        exec(statement, {})


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_the_page_is_current(locale):
    written = (DOCS / locale / "published.md").read_text(encoding="utf-8")
    assert written == page(locale), "run python -m tests.interop.published_page"


@pytest.mark.parametrize(("module", "name"), REFUSED)
def test_what_is_not_built_is_refused_at_the_import_with_what_to_use(module, name):
    with pytest.raises(ImportError, match=rf"{module}(\.{name})?: .*\b(use|choose|compare|give|with|detects)\b"):
        exec(f"from {module} import {name}", {})


def test_a_class_that_is_not_built_has_no_objects():
    import ultralytics.nn.tasks

    assert hasattr(ultralytics, "YOLOWorld") and not isinstance(1, (ultralytics.nn.tasks.PoseModel, ultralytics.SAM))
    for use in (ultralytics.nn.tasks.PoseModel, lambda model: type("Mine", (ultralytics.nn.tasks.PoseModel,), {})):
        with pytest.raises(ImportError, match=r"PoseModel: segmentation, poses, .* are not built"):
            use("yolo11n-pose.pt")


def test_a_misspelled_name_is_an_ordinary_import_error():
    with pytest.raises(ImportError, match="cannot import name 'LetterBoxx'"):
        exec("from ultralytics.data.augment import LetterBoxx", {})
    assert not hasattr(importlib.import_module("ultralytics.utils"), "nothing")
    assert not ABSENT.keys() & {*NAMES, *TOP}


@pytest.mark.parametrize(
    "statement", ["DEFAULT_CFG, SETTINGS, YAML, TryExcept, MACOS", "yaml_load, threaded, RUNS_DIR"]
)
def test_names_without_tensors_need_no_torch(statement):
    script = f"from ultralytics.utils import {statement}\nimport sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
