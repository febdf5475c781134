"""Examples in docstrings run, and the most used public names have one."""

import doctest
import importlib
import inspect
import logging
from pathlib import Path

import pytest
import yaml

from tests.interop.networks import NETWORK
from tests.shapes import write_shapes
from ultralytics.data.synthetic import NAMES
from ultralytics.utils.errors import MissingPackageError

ROOT = Path(__file__).resolve().parents[1]
FILES = (path for path in (ROOT / "ultralytics").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES)

PUBLIC = {
    "ultralytics": "RTDETR",
    "ultralytics.engine.model": "Model.train Model.val Model.predict Model.export Model.info",
    "ultralytics.engine.results": "Results Boxes",
    "ultralytics.nn.registry": "register",
    "ultralytics.nn.plans": "conv channel_preserving",
    "ultralytics.nn.tasks": "RTDETRDetectionModel parse_model",
    "ultralytics.nn.weights": "load_weights read_weights",
    "ultralytics.cfg": "get_cfg",
    "ultralytics.data.utils": "check_det_dataset",
    "ultralytics.models.utils.ops": "HungarianMatcher",
    "ultralytics.models.utils.loss": "RTDETRDetectionLoss",
    "ultralytics.utils.metrics": "DetMetrics",
    "ultralytics.utils.ops": "box_iou xyxy2xywh",
    "ultralytics.utils.plotting": "Annotator",
    "ultralytics.utils.torch_utils": "get_flops select_device",
    "ultralytics.utils.files": "increment_path",
    "ultralytics.utils": "colorstr",
}


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """Run every example beside a model file and a data YAML, and keep the log out of its output."""
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path, train=2, val=1)
    Path("small.yaml").write_text(yaml.safe_dump({**NETWORK, "nc": len(NAMES)}))
    monkeypatch.setenv("ULTRALYTICS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("ultralytics"), "handlers", [logging.NullHandler()])


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    try:
        module = importlib.import_module(name)
    except MissingPackageError as error:
        pytest.skip(str(error))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failures, examples = doctest.testmod(module, optionflags=flags)
    assert examples and not failures


@pytest.mark.parametrize(("module", "path"), [(module, path) for module in PUBLIC for path in PUBLIC[module].split()])
def test_public_name_has_an_example(module, path):
    thing = importlib.import_module(module)
    for part in path.split("."):
        thing = getattr(thing, part)
    assert ">>> " in (inspect.getdoc(thing) or "") + (inspect.getdoc(getattr(thing, "__init__", None)) or "")
