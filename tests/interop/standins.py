"""Pytest plugin for the published test suites: drawn files in place of what they download. Used in a temporary folder.

`python -m pytest -p standins` needs ULTRALYTICS_CACHE, the folder of weights and data sets.
"""

import ast
import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest
from fill import fill

import ultralytics.utils
from ultralytics.utils import ASSETS

CACHE = Path(os.environ.get("ULTRALYTICS_CACHE", ""))
NAMES = ("yolo26n", "yolo11n", "yolov8n", "yolov10n", "rtdetr-l")


def pictures(folder: Path) -> Path:
    """Copy the sample images under the published names."""
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in zip(sorted(ASSETS.iterdir()), ("bus.jpg", "zidane.jpg"), strict=True):
        shutil.copy(source, folder / name)
    return folder


def weights(folder: Path) -> None:
    """Save weights that detect something under the published names, also where a path contains spaces."""
    from ultralytics.models import Model

    (folder / "path with spaces").mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        if not (file := folder / f"{name}.pt").exists():
            model = Model(f"{name}.yaml", verbose=False)
            fill(model.model, 1.5)
            for kind in ("", "one2one_"):
                for branch in getattr(model.model.model[-1], f"{kind}cv2", ()):  # boxes of one size
                    branch[-1].weight.data.zero_()
                    branch[-1].bias.data.fill_(2)
                for branch in getattr(model.model.model[-1], f"{kind}cv3", ()):  # persons, which tests search
                    branch[-1].bias.data[0] += 2
            model.save(file)
        for place in (folder / "path with spaces", Path.cwd()):
            shutil.copy(file, place / file.name)


def data(folder: Path) -> None:
    """Draw coco8 and coco128 with the folders of the published archives."""
    from ultralytics.data.synthetic import generate_shapes

    for name, count in (("coco8", 4), ("coco128", 8)):
        if not (folder / name).exists():
            generate_shapes(folder / name, images_train=count, images_val=count, size=64, seed=0)
    for kind in ("images", "labels"):
        if not (target := folder / "coco128" / kind / "train2017").exists():
            shutil.copytree(folder / "coco128" / kind / "train", target)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Append the state of a test to states.tsv."""
    if report.when == "call" or not report.passed:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = getattr(crash, "message", "") or (report.longrepr[-1] if report.skipped else "")
        with open(CACHE / "states.tsv", "a") as stream:
            stream.write("\t".join((report.nodeid, report.outcome, " ".join(str(text).split())[:300])) + "\n")


def pytest_load_initial_conftests() -> None:
    """Prepare the files before the tests import their paths."""
    ultralytics.utils.ROOT = Path.cwd() / "ultralytics"
    Path("tests", "tmp").mkdir(exist_ok=True)
    ultralytics.utils.ASSETS = pictures(CACHE / "assets")
    weights(CACHE / "weights")
    data(CACHE / "datasets")


class Absent:
    """Stand for a name that the package does not have, so that a module with other tests is collected."""

    collecting = True

    def __init__(self, error: str) -> None:
        self.error = error

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") or not self.collecting:
            raise AttributeError(f"absent: {self.error}")
        return self

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.called

    def __iter__(self) -> object:
        return iter(self.items and ())


def pytest_collection_finish() -> None:
    Absent.collecting = False


def find(module: str, name: str) -> object:
    """Import a name, or return what stands for it."""
    try:
        found = importlib.import_module(module)
        return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")
    except ImportError as error:
        return Absent(f"from {module} import {name}: {error}")


def tolerate(source: str) -> str:
    """Rewrite the top imports of a test module, so that it can be imported without names that are absent."""
    tree = ast.parse(source)
    body = [ast.parse("import standins").body[0]]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ultralytics"):
            text = [f"{a.asname or a.name} = standins.find({node.module!r}, {a.name!r})" for a in node.names]
            body += ast.parse("\n".join(text)).body
        else:
            body.append(node)
    return ast.unparse(ast.Module(body, []))


if __name__ == "__main__":  # FOLDER: its tests are rewritten
    for file in Path(sys.argv[1]).rglob("*.py"):
        file.write_text(tolerate(file.read_text()))
